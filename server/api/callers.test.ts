import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { type VerifiedSvid, verifySvid } from '../../identity/verify.ts';
import { EntrySchema } from '../../proto/gen/spire/api/types/entry_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { registrarInit } from '../../test/fixtures/registrar-init.ts';
import {
  anyCsr,
  type EntryInit,
  entryInit,
  OPERATOR,
  RegistryWorld,
  TD,
} from '../../test/fixtures/registry-world.ts';
import { Locks } from '../access/locks.ts';
import { Resources } from '../access/resources.ts';
import { actorOf, type CallerKind, identify } from './callers.ts';

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
    adminIds = new Set();
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
  let adminIds: Set<string>;
  const callerWith = (peer: VerifiedSvid | undefined, ...wanted: CallerKind[]) =>
    identify(
      { kind: 'remote', connection: { peer, address: '10.0.0.1:5' } },
      { reader: world.store, clock: world.clock, agents: world.agents, adminIds },
      wanted,
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
    assert.equal(actorOf({ ...caller, requestId: 'r_1' }).requestId, 'r_1');
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
    ['was suspended, and is active again', () => suspendForAMoment(GATEWAY)],
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
  /** What was issued before it stays revoked. */
  async function suspendForAMoment(id: string): Promise<void> {
    for (const status of ['suspended', 'active'] as const)
      await world.identities.setStatus(SpiffeId.parse(id), { status, reason: '' }, OPERATOR);
  }
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

  describe('of a workload', () => {
    const OPS = `spiffe://${TD}/ops`;
    const make = async (more: EntryInit = {}, path = '/ops', selectors = ['unix:uid:7']) =>
      (await world.createEntry(entryInit({ path, selectors, more }))).id;
    const kindOf = async (svid: VerifiedSvid, ...wanted: CallerKind[]) =>
      (await callerWith(svid, ...wanted)).kind;
    const putRegistrar = (spiffeId: string) =>
      world.registrars.put(registrarInit({ spiffeId }), OPERATOR);

    it('S1: is an admin by the entry that its SVID was issued for, and by no other', async () => {
      const admin = await svidOf(await make({ admin: true }));
      const plain = await svidOf(await make({}, '/ops', ['unix:uid:8']));
      assert.equal(await kindOf(admin, 'local', 'admin'), 'admin');
      assert.equal(await kindOf(plain, 'local', 'admin'), 'workload');
      assert.deepEqual(actorOf(await callerWith(admin, 'admin')), {
        kind: 'admin',
        spiffeId: OPS,
        address: '10.0.0.1:5',
      });
    });

    it('S1: is an admin if the configuration names its SPIFFE ID exactly', async () => {
      const svid = await svidOf(await make());
      adminIds = new Set([`${OPS}/`, `spiffe://${TD}/op`, 'spiffe://other.org/ops']);
      assert.equal(await kindOf(svid, 'admin'), 'workload');
      adminIds.add(OPS);
      assert.equal(await kindOf(svid, 'admin'), 'admin');
    });

    it('S1: is a nested server by its entry, which the caller carries', async () => {
      const id = await make({ downstream: true, x509SvidTtl: 90 });
      const svid = await svidOf(id);
      const caller = await callerWith(svid, 'downstream');
      assert.ok(caller.kind === 'downstream');
      assert.deepEqual([caller.entry.id, caller.serial], [id, svid.serial]);
      assert.equal(await kindOf(svid, 'local', 'admin'), 'workload');
    });

    it('S15: is a registrar while its record stands', async () => {
      const svid = await svidOf(await make());
      assert.equal(await kindOf(svid, 'registrar'), 'workload');
      await putRegistrar(OPS);
      assert.equal(await kindOf(svid, 'local', 'admin', 'registrar'), 'registrar');
      assert.equal(await kindOf(svid, 'local', 'admin'), 'workload');
      await world.registrars.delete(SpiffeId.parse(OPS), OPERATOR);
      assert.equal(await kindOf(svid, 'registrar'), 'workload');
    });

    it('is the first of what it may be, so that an admin is not bound by its record', async () => {
      await putRegistrar(OPS);
      const svid = await svidOf(await make({ admin: true, downstream: true }));
      assert.equal(await kindOf(svid, 'local', 'admin', 'registrar'), 'admin');
      assert.equal(await kindOf(svid, 'downstream'), 'downstream');
    });

    it('S1: speaks for its SPIFFE ID with an SVID that an operator minted', async () => {
      const id = await make({ admin: true });
      const { chain } = await world.issuer.mintX509(await anyCsr(OPS), 0, OPERATOR);
      const svid = verifySvid(chain, () => world.authority.bundle.value, world.clock.now());
      assert.equal(await kindOf(svid, 'admin'), 'admin');
      await world.store.transaction((tx) => world.entries.delete(tx, id, { actor: OPERATOR }));
      assert.equal(await kindOf(svid, 'admin'), 'workload');
      await suspendForAMoment(OPS);
      await assert.rejects(callerWith(svid, 'admin'), denied);
      const change = { status: 'suspended', reason: '' } as const;
      await world.identities.setStatus(SpiffeId.parse(OPS), change, OPERATOR);
      await assert.rejects(callerWith(svid, 'admin'), denied);
    });

    const ended: [string, (id: string) => Promise<unknown>][] = [
      [
        'has lost its entry',
        (id) => world.store.transaction((tx) => world.entries.delete(tx, id, { actor: OPERATOR })),
      ],
      [
        'has an entry that no longer makes it one',
        (id) => update(id, entryInit({ path: '/ops', selectors: ['unix:uid:7'] })),
      ],
      [
        'is suspended',
        () =>
          world.identities.setStatus(
            SpiffeId.parse(OPS),
            { status: 'suspended', reason: '' },
            OPERATOR,
          ),
      ],
      ['was suspended, and is active again', () => suspendForAMoment(OPS)],
      [
        'has a banned agent',
        () => world.agents.ban(`spiffe://${TD}/spire/agent/x509pop/a`, OPERATOR),
      ],
      ['shows an SVID that has expired', async () => world.clock.advance(3_600_000)],
      ['is locked', () => lock(OPS)],
    ];
    const update = (id: string, init: EntryInit) =>
      world.store.transaction((tx) =>
        world.entries.update(tx, create(EntrySchema, { ...init, id }), undefined, {
          actor: OPERATOR,
        }),
      );
    const lock = (spiffeId: string) =>
      new Locks({ ...world, resources: new Resources(world.store) }).create(
        {
          ...{ reason: 'test', ttlSeconds: 0, createdBy: 'uid:0' },
          target: { case: 'spiffeId', value: spiffeId },
        },
        OPERATOR,
      );
    for (const [what, end] of ended) {
      it(`S1: is no admin once it ${what}`, async () => {
        const id = await make({ admin: true });
        const svid = await svidOf(id);
        assert.equal(await kindOf(svid, 'admin'), 'admin');
        await end(id);
        const kind = await kindOf(svid, 'admin').catch((error: Fault) => error.code);
        assert.match(kind, /^(workload|PERMISSION_DENIED)$/);
      });
    }

    it('S1: is no admin with an SVID that the ledger does not know', async () => {
      const svid = await svidOf(await make({ admin: true }));
      await assert.rejects(callerWith({ ...svid, serial: 'ab' }, 'admin'), denied);
    });
  });
});
