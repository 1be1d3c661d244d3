import assert from 'node:assert/strict';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { type VerifiedSvid, verifySvid } from '../../identity/verify.ts';
import { Fault } from '../../runtime/fault.ts';
import {
  anyCsr,
  entryInit,
  OPERATOR,
  RegistryWorld,
  TD,
} from '../../test/fixtures/registry-world.ts';
import { actorOf, identify } from './callers.ts';

const GATEWAY = `spiffe://${TD}/writ/gateway/a`;

describe('identify', () => {
  let world: RegistryWorld;
  let entryId: string;
  beforeEach(async () => {
    world = await RegistryWorld.open();
    await world.attest('a');
    await world.store.transaction((tx) =>
      tx.run(
        `insert into gateways (id, name, backends, names, created_at_ms)
         values (?, 'a', '["*"]', '["gw.example.org"]', 0)`,
        GATEWAY,
      ),
    );
    const init = entryInit({ path: '/writ/gateway/a' });
    entryId = (await world.createEntry(init, { allowReserved: true })).id;
  });
  afterEach(() => world[Symbol.asyncDispose]());

  const svidOf = async (id: string): Promise<VerifiedSvid> => {
    const agent = await world.attest('a');
    const [outcome] = await world.issuer.newX509(
      agent,
      [{ entryId: id, csr: await anyCsr() }],
      OPERATOR,
    );
    if (outcome === undefined || outcome instanceof Fault) throw outcome ?? new Error('no outcome');
    return verifySvid(outcome.chain, () => world.authority.bundle.value, world.clock.now());
  };
  const callerWith = (peer: VerifiedSvid | undefined) =>
    identify(
      { kind: 'remote', connection: { peer, address: '10.0.0.1:5' } },
      { reader: world.store, clock: world.clock, agents: world.agents },
    );
  const denied = { code: 'PERMISSION_DENIED' };

  it('S1: knows a gateway by its record and an SVID that still stands', async () => {
    const caller = await callerWith(await svidOf(entryId));
    assert.deepEqual(
      [caller.kind, caller.kind === 'gateway' && caller.record.name],
      ['gateway', 'a'],
    );
    assert.deepEqual(actorOf(caller), {
      kind: 'gateway',
      spiffeId: GATEWAY,
      address: '10.0.0.1:5',
    });
  });

  const takenAway: [string, () => Promise<unknown>][] = [
    [
      'has no record any more',
      () => world.store.transaction((tx) => tx.run('delete from gateways')),
    ],
    [
      'is suspended',
      () =>
        world.identities.setStatus(
          SpiffeId.parse(GATEWAY),
          { status: 'suspended', reason: '' },
          OPERATOR,
        ),
    ],
    [
      'has lost its entry',
      () => world.store.transaction((tx) => world.entries.delete(tx, entryId, { actor: OPERATOR })),
    ],
    [
      'has an agent that is banned',
      () => world.agents.ban(`spiffe://${TD}/spire/agent/x509pop/a`, OPERATOR),
    ],
    ['shows an SVID that has expired', async () => world.clock.advance(3_600_000)],
  ];
  for (const [what, take] of takenAway) {
    it(`S1: refuses a gateway that ${what}`, async () => {
      const svid = await svidOf(entryId);
      await take();
      await assert.rejects(callerWith(svid), denied);
    });
  }

  it("S1: refuses a gateway's name in an SVID that was not issued for its entry", async () => {
    const forged = { ...(await svidOf(entryId)), serial: 'ab' };
    await assert.rejects(callerWith(forged), denied);
  });

  it("takes any other SVID for a workload's, and none for nobody", async () => {
    const { id } = await world.createEntry(entryInit({}));
    assert.equal((await callerWith(await svidOf(id))).kind, 'workload');
    const nobody = await callerWith(undefined);
    assert.deepEqual(actorOf(nobody), { kind: 'unknown', address: '10.0.0.1:5' });
  });
});
