import assert from 'node:assert/strict';
import { createPublicKey } from 'node:crypto';
import type { JwtAuthority } from '../../identity/bundle.ts';
import { verifySvid } from '../../identity/verify.ts';
import { generateKey } from '../../identity/x509/key.ts';
import { AuthorityWorld, idOf, statesOf } from '../../test/fixtures/authority-world.ts';
import { MemoryUpstream } from '../../test/fixtures/memory-upstream.ts';
import type { UpstreamBundle } from '../plugins/upstream-authority/upstream-authority.ts';
import type { Authorities } from './authorities.ts';
import { rowsOfKind } from './authority-state.ts';
import { UpstreamWithdrawal } from './upstream-withdrawal.ts';

const SIGNAL = new AbortController().signal;

describe('UpstreamWithdrawal', () => {
  let upstream: MemoryUpstream;
  let world: AuthorityWorld;
  let authorities: Authorities;
  let withdrawal: UpstreamWithdrawal;
  /** Of the root that signs at first, and that is withdrawn. */
  let first: { readonly id: string; readonly der: Uint8Array };
  let second: { readonly id: string; readonly der: Uint8Array };
  const newRoot = async () => {
    const id = await upstream.newRoot();
    return { id, der: upstream.roots[0] ?? Buffer.of() };
  };
  beforeEach(async () => {
    upstream = new MemoryUpstream();
    first = await newRoot();
    world = await AuthorityWorld.create({ upstream });
    authorities = await world.open();
    second = await newRoot();
    upstream.roots = [first.der, second.der];
    await authorities.addUpstream({ x509: [second.der], jwt: [] });
    withdrawal = new UpstreamWithdrawal({ authorities, clock: world.clock, log: world.log });
  });
  afterEach(() => world[Symbol.asyncDispose]());

  const root = ({ der }: { readonly der: Uint8Array }, tainted = false) => ({ der, tainted });
  const follow = (bundle: Partial<UpstreamBundle>) =>
    withdrawal.follow(
      { x509: [root(first), root(second)], jwt: [], ...bundle },
      authorities.state.value,
      SIGNAL,
    );
  const taints = () => authorities.state.value.bundle.x509Authorities.map((one) => one.tainted);
  const upstreamOf = (state: string) =>
    rowsOfKind(authorities.state.value, 'x509').find((row) => row.state === state)?.upstreamId;
  /** An agent whose SVID in use was signed by the authority that is active now. */
  const agent = async () => {
    const end = world.inSeconds(3600).getTime();
    await world.store.transaction(async (tx) => {
      await tx.run(
        `insert into agents (id, attestation_type, serial, not_after_ms, can_reattest, selectors,
           attested_at_ms) values ('a', 't', 's', ?, 0, '[]', 0)`,
        end,
      );
      await tx.run(
        `insert into ledger (serial, kind, spiffe_id, issued_at_ms, not_after_ms, authority_id)
         values ('s', 'agent', 'a', 0, ?, ?)`,
        ...[end, idOf(authorities, 'x509', 'active')],
      );
    });
  };

  it('does nothing while the upstream keeps what it has', async () => {
    const before = authorities.state.value;
    for (let time = 0; time < 3; time += 1) await follow({});
    assert.equal(authorities.state.value, before);
  });

  it('signs below another root first, then taints the old one', async () => {
    const before = await world.sign(world.signing(authorities));
    await follow({ x509: [root(first, true), root(second)] });
    assert.equal(upstreamOf('active'), second.id);
    assert.deepEqual(taints(), [false, true]);
    const { bundle } = authorities.state.value;
    const after = await world.sign(world.signing(authorities));
    for (const { chain } of [before, after]) verifySvid(chain, () => bundle, world.clock.now());
    const events = await world.events();
    const [activated, tainted] = ['authority.activated x509', 'authority.tainted x509'];
    assert.ok(events.lastIndexOf(activated) < events.lastIndexOf(tainted), events.join());
    const settled = authorities.state.value;
    await follow({ x509: [root(first, true), root(second)] });
    assert.equal(authorities.state.value, settled);
  });

  it('makes the prepared authority anew if that alone is below the root', async () => {
    await world.prepare(authorities, 'x509');
    assert.equal(upstreamOf('prepared'), second.id);
    const third = await newRoot();
    upstream.roots = [first.der, second.der, third.der];
    await authorities.addUpstream({ x509: [third.der], jwt: [] });
    await follow({ x509: [root(first), root(second, true), root(third)] });
    assert.equal(upstreamOf('active'), first.id);
    assert.equal(upstreamOf('prepared'), third.id);
    assert.deepEqual(taints().sort(), [false, false, true]);
  });

  it('taints nothing while the upstream signs with the root that it withdraws', async () => {
    await assert.rejects(follow({ x509: [root(first, true), root(second, true)] }), {
      code: 'FAILED_PRECONDITION',
    });
    assert.deepEqual(taints(), [false, false]);
    assert.equal(upstreamOf('active'), first.id);
  });

  it('drops a tainted root that the upstream has revoked, once it is missing twice', async () => {
    await follow({ x509: [root(first, true), root(second)] });
    await follow({ x509: [root(second)] });
    assert.deepEqual(taints(), [false, true]);
    await follow({ x509: [root(second)] });
    assert.deepEqual(taints(), [false]);
    assert.ok((await world.events()).includes('authority.revoked x509'));
  });

  it('leaves, taints and drops a root whose taint it has not seen', async () => {
    for (let time = 0; time < 2; time += 1) await follow({ x509: [root(second)] });
    assert.equal(upstreamOf('active'), second.id);
    assert.deepEqual(taints(), [false]);
    assert.deepEqual(statesOf(authorities, 'x509'), ['active', 'old']);
    assert.ok((await world.events()).includes('authority.tainted x509'));
  });

  it('counts no root as missing that came while the bundle was under way', async () => {
    const before = authorities.state.value;
    const third = await newRoot();
    await authorities.addUpstream({ x509: [third.der], jwt: [] });
    const bundle = { x509: [root(first), root(second)], jwt: [] };
    for (let time = 0; time < 3; time += 1) await withdrawal.follow(bundle, before, SIGNAL);
    assert.deepEqual(taints(), [false, false, false]);
  });

  it('waits with the drop for agents that are still renewing, and not for ever', async () => {
    await agent();
    for (let time = 0; time < 3; time += 1) await follow({ x509: [root(second)] });
    assert.deepEqual(taints(), [false, true]);
    world.clock.advance(5 * 60_000);
    await follow({ x509: [root(second)] });
    assert.deepEqual(taints(), [false]);
  });

  it('leaves a root that has ended to the rotation', async () => {
    await follow({ x509: [root(first, true), root(second)] });
    world.clock.advance(11 * 24 * 3_600_000);
    for (let time = 0; time < 3; time += 1) await follow({ x509: [root(second)] });
    assert.ok(!(await world.events()).includes('authority.revoked x509'));
  });

  it('takes a bundle without any root for a fault', async () => {
    for (let time = 0; time < 3; time += 1)
      await assert.rejects(follow({ x509: [] }), { code: 'FAILED_PRECONDITION' });
    assert.deepEqual(taints(), [false, false]);
  });

  it('leaves alone what an operator has appended', async () => {
    const own = await newRoot();
    await world.store.transaction((tx) =>
      authorities.append(tx, { x509: [own.der], jwt: [] }, { kind: 'server' }),
    );
    for (let time = 0; time < 3; time += 1) await follow({});
    assert.deepEqual(taints(), [false, false, false]);
  });

  it('taints and drops keys of tokens as the upstream does', async () => {
    const publicKey = createPublicKey(await generateKey('ec-p256'));
    const key: JwtAuthority = { keyId: 'k', publicKey, expiresAt: undefined, tainted: false };
    await authorities.addUpstream({ x509: [], jwt: [key] });
    const keys = () =>
      authorities.state.value.bundle.jwtAuthorities
        .filter(({ keyId }) => keyId === 'k')
        .map((one) => one.tainted);
    await follow({ jwt: [{ ...key, tainted: true }] });
    assert.deepEqual(keys(), [true]);
    await follow({});
    assert.deepEqual(keys(), [true]);
    await follow({});
    assert.deepEqual(keys(), []);
    const own = rowsOfKind(authorities.state.value, 'jwt').length;
    assert.equal(authorities.state.value.bundle.jwtAuthorities.length, own);
  });
});
