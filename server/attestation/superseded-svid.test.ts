import assert from 'node:assert/strict';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { generateKey, spkiOf } from '../../identity/x509/key.ts';
import { PermissionDeniedDetails_Reason as Reason } from '../../proto/gen/spire/api/types/status_pb.ts';
import { RegistryWorld, TD } from '../../test/fixtures/registry-world.ts';
import { findAgent } from './agent-records.ts';
import { permissionDenied } from './permission-denied.ts';

const ID = SpiffeId.parse(`spiffe://${TD}/spire/agent/quiz/a`);
const NOT_ACTIVE = permissionDenied('agent SVID is not active', Reason.AGENT_NOT_ACTIVE);

describe('on_clone: ban', () => {
  let world: RegistryWorld;
  const open = async (onClone: 'alarm' | 'ban') => {
    world = await RegistryWorld.open({ onClone });
  };
  afterEach(() => world[Symbol.asyncDispose]());

  const issue = async () => {
    const spki = spkiOf(await generateKey('ec-p256'));
    const notAfter = new Date(world.clock.now().getTime() + 3_600_000);
    return world.store.transaction((tx) =>
      world.authority.signX509(tx, {
        ...{ kind: 'agent', id: ID, spki, notAfter, agentId: ID.toString() },
        actor: { kind: 'agent', spiffeId: ID.toString() },
      }),
    );
  };
  const attest = async () => {
    const { serial, notAfter } = await issue();
    const node = { id: ID, type: 'quiz', selectors: [], canReattest: true, serial, notAfter };
    await world.store.transaction((tx) => world.agents.admit(tx, node));
    return serial;
  };
  const renew = async () => {
    const { serial, notAfter } = await issue();
    await world.store.transaction((tx) => world.agents.renew(tx, ID.toString(), serial, notAfter));
    return serial;
  };
  const call = (serial: string) => {
    const notAfter = new Date(world.clock.now().getTime() + 1000);
    return world.agents.check({ id: ID, serial, notAfter, address: '127.0.0.1:1' });
  };
  const refused = (serial: string) =>
    assert.rejects(call(serial), { code: NOT_ACTIVE.code, details: NOT_ACTIVE.details });
  const isBanned = async () => (await findAgent(world.store, ID))?.isBanned;

  for (const [what, next] of [
    ['renewed', renew],
    ['attested anew', attest],
  ] as const)
    it(`S12: bans an agent whose old SVID is used after it has ${what}, with its sessions`, async () => {
      await open('ban');
      const old = await attest();
      world.clock.advance(1000);
      const current = await next();
      await call(current);
      world.clock.advance(10_000);
      await refused(old);
      assert.equal(await isBanned(), true);
      await assert.rejects(call(current), { message: 'agent is banned' });
      assert.deepEqual(await world.revoked(), [`agentId ${ID} agent.ban`]);
      const event = (await world.events()).find(({ type }) => type === 'agent.banned');
      assert.deepEqual(
        [event?.actor?.kind, event?.reason],
        ['server', 'an SVID that it has replaced was used again'],
      );
    });

  it('takes a call that comes in just after the first use of the next SVID for no copy', async () => {
    await open('ban');
    const old = await attest();
    world.clock.advance(60_000);
    const current = await renew();
    world.clock.advance(60_000);
    await call(current);
    world.clock.advance(9_999);
    await refused(old);
    assert.equal(await isBanned(), false);
    await call(current);
  });

  it('takes an SVID that the ledger lacks, as after a restore, for no copy', async () => {
    await open('ban');
    await attest();
    world.clock.advance(60_000);
    await refused('0badcafe');
    assert.equal(await isBanned(), false);
  });

  it('bans nobody unless it is configured', async () => {
    await open('alarm');
    const old = await attest();
    world.clock.advance(1000);
    await call(await renew());
    world.clock.advance(60_000);
    await refused(old);
    assert.equal(await isBanned(), false);
  });
});
