import assert from 'node:assert/strict';
import { create, toBinary } from '@bufbuild/protobuf';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { LockSchema, ResourceSchema } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { RegistryWorld, TD } from '../../test/fixtures/registry-world.ts';
import { isSvidBarred } from './barred-svid.ts';

const ID = SpiffeId.parse(`spiffe://${TD}/spire-exchange/n1`);
const AGENT = `spiffe://${TD}/spire/agent/x509pop/a`;

describe('isSvidBarred', () => {
  let world: RegistryWorld;
  beforeEach(async () => {
    world = await RegistryWorld.open();
    await world.store.transaction((tx) =>
      tx.run(
        `insert into ledger (serial, kind, spiffe_id, agent_id, issued_at_ms, not_after_ms)
         values ('0a', 'x509', ?, ?, 0, 1), ('0b', 'x509', ?, null, 0, 1)`,
        ID.toString(),
        AGENT,
        ID.toString(),
      ),
    );
  });
  afterEach(() => world[Symbol.asyncDispose]());

  const barred = (serial: string) =>
    isSvidBarred(world.store, { id: ID, serial }, world.clock.now());
  const lock = (target: 'agentId' | 'spiffeId', value: string) => {
    const lock = create(LockSchema, { name: 'l', target: { target: { case: target, value } } });
    const body = { case: 'lock' as const, value: lock };
    const bytes = toBinary(ResourceSchema, create(ResourceSchema, { name: 'l', body }));
    return world.store.transaction((tx) =>
      tx.run(`insert into resources values ('Lock', 'l', 1, ?, 0)`, bytes),
    );
  };

  it('lets what stands through, also what another server of the trust domain issued', async () => {
    for (const serial of ['0a', '0b', '0c']) assert.equal(await barred(serial), false);
  });

  it('bars what was revoked, and that alone', async () => {
    await world.store.transaction((tx) =>
      tx.run(`update ledger set revoked_at_ms = 1 where serial = '0a'`),
    );
    assert.deepEqual([await barred('0a'), await barred('0b')], [true, false]);
  });

  it('bars an identity that is locked, and what a locked agent was given', async () => {
    await lock('agentId', AGENT);
    assert.deepEqual([await barred('0a'), await barred('0b')], [true, false]);
    await world.store.transaction((tx) => tx.run('delete from resources'));
    await lock('spiffeId', ID.toString());
    assert.deepEqual([await barred('0b'), await barred('0c')], [true, true]);
  });
});
