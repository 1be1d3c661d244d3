import assert from 'node:assert/strict';
import { verifySvid } from '../../identity/verify.ts';
import { AuthorityWorld, idOf, statesOf } from '../../test/fixtures/authority-world.ts';
import { OPERATOR } from '../../test/fixtures/registry-world.ts';
import type { KeyManager } from '../plugins/key-manager/key-manager.ts';
import { memoryKeyManager } from '../plugins/key-manager/memory.ts';
import type { Authorities } from './authorities.ts';

const KINDS = ['x509', 'jwt', 'ssh-user', 'ssh-host', 'ssh-gateway'] as const;
const INVALID = { code: 'INVALID_ARGUMENT' };
const PRECONDITION = { code: 'FAILED_PRECONDITION' };

describe('Authorities', () => {
  let world: AuthorityWorld;
  let authorities: Authorities;
  beforeEach(async () => {
    world = await AuthorityWorld.create();
    authorities = await world.open();
  });
  afterEach(() => world[Symbol.asyncDispose]());

  const bundle = () => authorities.state.value.bundle;
  const inBundle = (kind: 'x509' | 'jwt') =>
    kind === 'x509' ? bundle().x509Authorities.length : bundle().jwtAuthorities.length;

  for (const kind of ['x509', 'jwt'] as const)
    describe(`of ${kind}`, () => {
      it('tells each step and counts each change of the bundle', async () => {
        const first = bundle().sequenceNumber;
        const { id } = await world.prepare(authorities, kind);
        assert.deepEqual(statesOf(authorities, kind), ['active', 'prepared']);
        assert.deepEqual([inBundle(kind), bundle().sequenceNumber], [2, first + 1n]);
        const old = idOf(authorities, kind, 'active');
        await authorities.activate({ kind, id }, OPERATOR);
        assert.deepEqual(statesOf(authorities, kind), ['active', 'old']);
        assert.deepEqual([inBundle(kind), bundle().sequenceNumber], [2, first + 1n]);
        await authorities.taint({ kind, id: old }, OPERATOR);
        assert.deepEqual(statesOf(authorities, kind), ['active', 'old tainted']);
        assert.deepEqual([inBundle(kind), bundle().sequenceNumber], [2, first + 2n]);
        await authorities.revoke({ kind, id: old }, OPERATOR);
        assert.deepEqual(statesOf(authorities, kind), ['active']);
        assert.deepEqual([inBundle(kind), bundle().sequenceNumber], [1, first + 3n]);
        const events = await world.events();
        assert.deepEqual(events.slice(KINDS.length), [
          `authority.created ${kind}`,
          `authority.activated ${kind}`,
          `authority.tainted ${kind}`,
          `authority.revoked ${kind}`,
        ]);
        assert.equal([...world.keys.keys()].filter((name) => name.startsWith(kind)).length, 1);
      });

      it('takes no step out of order', async () => {
        const active = { kind, id: idOf(authorities, kind, 'active') };
        for (const id of ['', 'unknown', active.id]) {
          await assert.rejects(authorities.activate({ kind, id }, OPERATOR), INVALID);
          await assert.rejects(authorities.taint({ kind, id }, OPERATOR), INVALID);
          await assert.rejects(authorities.revoke({ kind, id }, OPERATOR), INVALID);
        }
        const { id } = await world.prepare(authorities, kind);
        await assert.rejects(authorities.taint({ kind, id }, OPERATOR), INVALID);
        await assert.rejects(authorities.revoke({ kind, id }, OPERATOR), INVALID);
        await authorities.activate({ kind, id }, OPERATOR);
        await assert.rejects(authorities.activate(active, OPERATOR), INVALID);
        await assert.rejects(authorities.revoke(active, OPERATOR), PRECONDITION);
        await authorities.taint(active, OPERATOR);
        await assert.rejects(authorities.taint(active, OPERATOR), PRECONDITION);
        await authorities.revoke(active, OPERATOR);
        await assert.rejects(authorities.revoke(active, OPERATOR), INVALID);
      });
    });

  it('lets a prepared authority give way to one that is prepared later, with its key', async () => {
    const { id, keyName } = await world.prepare(authorities, 'x509');
    const next = await world.prepare(authorities, 'x509');
    assert.notEqual(next.id, id);
    assert.deepEqual(statesOf(authorities, 'x509'), ['active', 'prepared']);
    assert.equal(world.keys.has(keyName), false);
    await assert.rejects(authorities.activate({ kind: 'x509', id }, OPERATOR), INVALID);
  });

  it('prepares one after the other when two want to', async () => {
    await Promise.all([world.prepare(authorities, 'x509'), world.prepare(authorities, 'x509')]);
    assert.deepEqual(statesOf(authorities, 'x509'), ['active', 'prepared']);
    assert.equal(world.keys.size, KINDS.length + 1);
  });

  describe('after a restart', () => {
    for (const state of ['prepared', 'active', 'old', 'tainted'] as const)
      it(`goes on where one was ${state}`, async () => {
        const { id } = await world.prepare(authorities, 'x509');
        const old = idOf(authorities, 'x509', 'active');
        if (state !== 'prepared') await authorities.activate({ kind: 'x509', id }, OPERATOR);
        if (state === 'tainted') await authorities.taint({ kind: 'x509', id: old }, OPERATOR);
        const before = authorities.state.value;
        const signed = await world.sign(world.signing(authorities));
        authorities = await world.open();
        assert.deepEqual(
          authorities.state.value.authorities.map(({ row }) => [row.id, row.state, row.tainted]),
          before.authorities.map(({ row }) => [row.id, row.state, row.tainted]),
        );
        assert.equal(bundle().sequenceNumber, before.bundle.sequenceNumber);
        verifySvid(signed.chain, bundle, world.clock.now());
        const active = idOf(authorities, 'x509', 'active');
        assert.equal(active, state === 'prepared' ? old : id);
      });

    it('finds the keys under the names that earlier versions gave them', async () => {
      const before = authorities.state.value.authorities.map(({ row }) => row);
      for (const { id, kind, keyName } of before) {
        const key = world.keys.get(keyName);
        assert.ok(key !== undefined);
        world.keys.delete(keyName);
        world.keys.set(`${kind}-${id}`, key);
      }
      await world.store.transaction((tx) => tx.run(`update authorities set key_name = ''`));
      authorities = await world.open();
      const after = authorities.state.value.authorities;
      assert.deepEqual(
        after.map(({ row, signer }) => [row.id, signer !== undefined]),
        before.map(({ id }) => [id, true]),
      );
    });

    it('removes the keys that a crash left without their authority, and no others', async () => {
      const crashing: KeyManager = memoryKeyManager({ keys: world.keys });
      await crashing.generate('x509-0123', 'ec-p256');
      await crashing.generate('somebody-elses', 'ec-p256');
      await world.open();
      assert.equal(world.keys.has('x509-0123'), false);
      assert.equal(world.keys.size, KINDS.length + 1);
    });

    it('lets the prepared authority sign if the key of the active one is lost', async () => {
      const lost = idOf(authorities, 'x509', 'active');
      const svid = await world.sign(world.signing(authorities));
      const known = world.keys.size;
      const { id, keyName } = await world.prepare(authorities, 'x509');
      const sequence = bundle().sequenceNumber;
      const key = world.keys.get(keyName);
      world.lose('x509');
      if (key !== undefined) world.keys.set(keyName, key);
      assert.equal(world.keys.size, known);
      authorities = await world.open();
      assert.deepEqual(
        [idOf(authorities, 'x509', 'active'), idOf(authorities, 'x509', 'old')],
        [id, lost],
      );
      assert.equal(bundle().sequenceNumber, sequence);
      verifySvid(svid.chain, bundle, world.clock.now());
      assert.ok((await world.events()).includes('authority.lost x509'));
    });

    it('makes a new authority if all keys are lost, in the bundle before it signs, and keeps the old', async () => {
      const svid = await world.sign(world.signing(authorities));
      const before = bundle();
      for (const kind of KINDS) world.lose(kind);
      authorities = await world.open();
      assert.equal(bundle().x509Authorities.length, 2);
      assert.ok(bundle().sequenceNumber > before.sequenceNumber);
      const now = world.clock.now();
      verifySvid(svid.chain, bundle, now);
      const renewed = await world.sign(world.signing(authorities));
      verifySvid(renewed.chain, bundle, now);
      assert.throws(() => verifySvid(renewed.chain, () => before, now), { code: 'SVID_INVALID' });
      assert.deepEqual(statesOf(authorities, 'jwt'), ['active', 'old']);
    });
  });

  it('leaves no key behind where a change fails', async () => {
    const full = `create trigger full before insert on audit_events begin select raise(abort, 'full'); end`;
    await world.store.transaction((tx) => tx.run(full));
    const before = authorities.state.value;
    await assert.rejects(world.prepare(authorities, 'x509'), /full/);
    assert.equal(authorities.state.value, before);
    assert.equal(world.keys.size, KINDS.length);
  });

  describe('revoke of an X.509 authority', () => {
    let old: string;
    const agentHolds = async (serial: string) => {
      await world.store.transaction((tx) =>
        tx.run(
          `insert into agents (id, attestation_type, serial, not_after_ms, can_reattest, selectors, attested_at_ms)
           values (?, 'join_token', ?, ?, 0, '[]', 0)`,
          `spiffe://example.org/spire/agent/${serial}`,
          serial,
          world.inSeconds(3600).getTime(),
        ),
      );
    };
    beforeEach(async () => {
      const { serial } = await world.sign(world.signing(authorities), 3600);
      await agentHolds(serial);
      old = idOf(authorities, 'x509', 'active');
      const { id } = await world.prepare(authorities, 'x509');
      await authorities.activate({ kind: 'x509', id }, OPERATOR);
      await authorities.taint({ kind: 'x509', id: old }, OPERATOR);
    });
    const revoke = () => authorities.revoke({ kind: 'x509', id: old }, OPERATOR);
    const refused = { ...PRECONDITION, message: /^1 agent holds an SVID of this authority/ };

    it('is refused while an agent still uses what it signed, and passes once it has renewed', async () => {
      await assert.rejects(revoke(), refused);
      const { serial } = await world.sign(world.signing(authorities), 3600);
      await world.store.transaction((tx) => tx.run('update agents set new_serial = ?', serial));
      await assert.rejects(revoke(), refused);
      await world.store.transaction((tx) =>
        tx.run('update agents set serial = ?, new_serial = null', serial),
      );
      await revoke();
    });

    it('waits for an agent that can attest again only until it has heard of the taint', async () => {
      const workloadRenewed = async () => {
        world.clock.advance(1);
        const { serial } = await world.sign(world.signing(authorities), 3600);
        await world.store.transaction((tx) =>
          tx.run('update ledger set agent_id = (select id from agents) where serial = ?', serial),
        );
      };
      await workloadRenewed();
      await assert.rejects(revoke(), refused);
      await world.store.transaction((tx) => tx.run('update agents set can_reattest = 1'));
      await revoke();
    });

    it('waits for an agent that can attest again and has not heard of the taint', async () => {
      await world.store.transaction((tx) => tx.run('update agents set can_reattest = 1'));
      await assert.rejects(revoke(), refused);
    });

    it('passes when what the agent holds has ended', async () => {
      await world.store.transaction((tx) =>
        tx.run('update agents set not_after_ms = ?', world.clock.now().getTime()),
      );
      await revoke();
    });

    it('passes when the agent is banned', async () => {
      await world.store.transaction((tx) => tx.run('update agents set banned = 1'));
      await revoke();
    });

    it('passes five minutes after the taint', async () => {
      world.clock.advance(5 * 60_000 - 1);
      await assert.rejects(revoke(), refused);
      world.clock.advance(1);
      await revoke();
    });
  });
});
