import assert from 'node:assert/strict';
import { localSigner } from '../../identity/signer.ts';
import { verifySvid } from '../../identity/verify.ts';
import { createCaCsr } from '../../identity/x509/ca.ts';
import { generateKey } from '../../identity/x509/key.ts';
import { Fault } from '../../runtime/fault.ts';
import { AuthorityWorld, idOf, statesOf } from '../../test/fixtures/authority-world.ts';
import { MemoryUpstream } from '../../test/fixtures/memory-upstream.ts';
import { OPERATOR, START, TD } from '../../test/fixtures/registry-world.ts';
import { UpstreamLink } from './upstream-link.ts';

const DAY_MS = 24 * 3_600_000;
const INVALID = { code: 'INVALID_ARGUMENT' };
const PRECONDITION = { code: 'FAILED_PRECONDITION' };

describe('Authorities under an upstream', () => {
  let upstream: MemoryUpstream;
  let world: AuthorityWorld;
  let root: string;
  beforeEach(async () => {
    upstream = new MemoryUpstream();
    root = await upstream.newRoot();
    world = await AuthorityWorld.create({ upstream });
  });
  afterEach(() => world[Symbol.asyncDispose]());

  it('have the root alone in the bundle, and their own certificate in each chain', async () => {
    const authorities = await world.open();
    const { bundle } = authorities.state.value;
    assert.deepEqual(bundle.x509Authorities.map(({ der }) => der).map(Buffer.from), [
      Buffer.from(upstream.roots[0] ?? []),
    ]);
    const { chain, notAfter } = await world.sign(world.signing(authorities), 7 * 24 * 3600);
    assert.equal(chain.length, 2);
    assert.deepEqual(notAfter, new Date(START.getTime() + DAY_MS));
    verifySvid(chain, () => bundle, world.clock.now());
    assert.ok((await world.events()).includes('authority.trusted x509'));
  });

  it('end with the root that they are below', async () => {
    await upstream.newRoot(3_600_000);
    const authorities = await world.open();
    const { notAfter } = await world.sign(world.signing(authorities), 24 * 3600);
    assert.deepEqual(notAfter, new Date(START.getTime() + 3_600_000));
  });

  it('follow a root that was swapped; what is below the old one stays good', async () => {
    const authorities = await world.open();
    const before = await world.sign(world.signing(authorities), 3600);
    const next = await upstream.newRoot();
    const { id, upstreamId } = await world.prepare(authorities, 'x509');
    assert.equal(upstreamId, next);
    await authorities.activate({ kind: 'x509', id }, OPERATOR);
    const after = await world.sign(world.signing(authorities), 3600);
    const { bundle } = authorities.state.value;
    for (const { chain } of [before, after]) verifySvid(chain, () => bundle, world.clock.now());
    assert.deepEqual(
      Buffer.from(bundle.x509Authorities[0]?.der ?? []),
      Buffer.from(upstream.roots[0] ?? []),
    );
  });

  it('taint and revoke roots that are no longer in use, by their subject key ids', async () => {
    const authorities = await world.open();
    for (const id of ['', 'ab', root])
      await assert.rejects(authorities.taintUpstream(id, OPERATOR), INVALID);
    await upstream.newRoot();
    const { id } = await world.prepare(authorities, 'x509');
    await assert.rejects(authorities.taintUpstream(root, OPERATOR), INVALID);
    await authorities.activate({ kind: 'x509', id }, OPERATOR);
    await assert.rejects(authorities.revokeUpstream(root, OPERATOR), PRECONDITION);
    await authorities.taintUpstream(root, OPERATOR);
    const tainted = authorities.state.value.bundle.x509Authorities.map((one) => one.tainted);
    assert.deepEqual(tainted, [false, true]);
    await assert.rejects(authorities.taintUpstream(root, OPERATOR), PRECONDITION);
    await authorities.revokeUpstream(root, OPERATOR);
    assert.equal(authorities.state.value.bundle.x509Authorities.length, 1);
  });

  it('stay as they are when the upstream refuses, without a key left behind', async () => {
    const authorities = await world.open();
    const keys = world.keys.size;
    upstream.failure = new Fault('UNAVAILABLE', 'away');
    await assert.rejects(world.prepare(authorities, 'x509'), { code: 'UNAVAILABLE' });
    assert.deepEqual(statesOf(authorities, 'x509'), ['active']);
    assert.equal(world.keys.size, keys);
    // The others need no upstream.
    await world.prepare(authorities, 'jwt');
  });

  it('refuse a certificate of another key, and one that no root has signed', async () => {
    const authorities = await world.open();
    const { mint } = upstream;
    const other = await mint.call(upstream, await csrOfAnother(), 60);
    upstream.mint = async () => other;
    await assert.rejects(world.prepare(authorities, 'x509'), PRECONDITION);
    upstream.mint = async (csr, ttl) => ({ ...(await mint.call(upstream, csr, ttl)), roots: [] });
    await assert.rejects(world.prepare(authorities, 'x509'), PRECONDITION);
  });
});

async function csrOfAnother(): Promise<Uint8Array> {
  return createCaCsr(TD, localSigner(await generateKey('ec-p256')));
}

describe('UpstreamLink', () => {
  it('takes over new roots and has the keys of JWT published, as they come', async () => {
    const upstream = new MemoryUpstream();
    await upstream.newRoot();
    await using world = await AuthorityWorld.create({ upstream });
    const authorities = await world.open();
    const { clock, log } = world;
    await using _ = new UpstreamLink({ authorities, upstream, clock, log });
    await upstream.newRoot();
    await world.prepare(authorities, 'jwt');
    const signal = AbortSignal.timeout(20_000);
    for await (const { bundle } of authorities.state.values(signal))
      if (bundle.x509Authorities.length === 2 && upstream.jwt.length === 2) break;
    const ids = ['active', 'prepared'].map((state) => idOf(authorities, 'jwt', state));
    assert.deepEqual(upstream.jwt.map(({ keyId }) => keyId).sort(), ids.sort());
  });

  it('does not bring back what an operator has revoked here and the upstream still has', async () => {
    const upstream = new MemoryUpstream();
    const first = await upstream.newRoot();
    await using world = await AuthorityWorld.create({ upstream });
    const authorities = await world.open();
    const { clock, log } = world;
    const signal = AbortSignal.timeout(20_000);
    await using _ = new UpstreamLink({ authorities, upstream, clock, log });
    const bundled = async (count: number) => {
      for await (const { bundle } of authorities.state.values(signal))
        if (bundle.x509Authorities.length === count) return;
    };
    const [old = Buffer.of()] = upstream.roots;
    await upstream.newRoot();
    const all = [old, ...upstream.roots].map((der) => ({ der, tainted: false }));
    upstream.tell({ x509: all });
    await bundled(2);
    const { id } = await world.prepare(authorities, 'x509');
    await authorities.activate({ kind: 'x509', id }, OPERATOR);
    await authorities.taintUpstream(first, OPERATOR);
    await authorities.revokeUpstream(first, OPERATOR);
    await bundled(1);
    await upstream.newRoot();
    upstream.tell({ x509: [...all, ...upstream.roots.map((der) => ({ der, tainted: false }))] });
    await bundled(2);
    const ders = authorities.state.value.bundle.x509Authorities.map(({ der }) => Buffer.from(der));
    assert.ok(!ders.some((der) => der.equals(old)));
  });
});
