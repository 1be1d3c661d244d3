import assert from 'node:assert/strict';
import { fromBinary } from '@bufbuild/protobuf';
import { anyUnpack } from '@bufbuild/protobuf/wkt';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { StatusSchema } from '../../proto/gen/google/rpc/status_pb.ts';
import {
  PermissionDeniedDetailsSchema,
  PermissionDeniedDetails_Reason as Reason,
} from '../../proto/gen/spire/api/types/status_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { onEachStore } from '../../test/fixtures/each-store.ts';
import { OPERATOR, RegistryWorld, TD } from '../../test/fixtures/registry-world.ts';
import { findAgent } from './agent-records.ts';
import type { AgentProof } from './agents.ts';

const ID = SpiffeId.parse(`spiffe://${TD}/spire/agent/x509pop/a`);

onEachStore('Agents', (fresh) => {
  let world: RegistryWorld;
  beforeEach(async () => {
    world = await RegistryWorld.open({ store: await fresh().open() });
    await world.attest('a');
  });
  afterEach(() => world[Symbol.asyncDispose]());

  const proof = (more: Partial<AgentProof> = {}): AgentProof => ({
    id: ID,
    serial: 'serial-a',
    notAfter: new Date(world.clock.now().getTime() + 1000),
    address: '127.0.0.1:1',
    ...more,
  });
  const reasonOf = async (call: Promise<unknown>) => {
    const error: unknown = await call.then(
      () => assert.fail('admitted'),
      (reason) => reason,
    );
    assert.ok(error instanceof Fault && error.code === 'PERMISSION_DENIED');
    const [detail] = fromBinary(StatusSchema, error.details ?? new Uint8Array()).details;
    return detail && anyUnpack(detail, PermissionDeniedDetailsSchema)?.reason;
  };
  const renew = (serial: string) =>
    world.store.transaction((tx) =>
      world.agents.renew(tx, ID.toString(), serial, new Date(world.clock.now().getTime() + 9000)),
    );

  it('admits an agent with its current SVID', async () => {
    assert.equal((await world.agents.check(proof())).id, ID.toString());
  });

  it('refuses an SVID at the instant it expires', async () => {
    const notAfter = world.clock.now();
    assert.equal(await reasonOf(world.agents.check(proof({ notAfter }))), Reason.AGENT_EXPIRED);
  });

  it('refuses who was never attested, and who is banned', async () => {
    const id = SpiffeId.parse(`${ID}b`);
    assert.equal(await reasonOf(world.agents.check(proof({ id }))), Reason.AGENT_NOT_ATTESTED);
    await world.agents.ban(ID.toString(), OPERATOR);
    assert.equal(await reasonOf(world.agents.check(proof())), Reason.AGENT_BANNED);
    assert.deepEqual(await world.revoked(), [`agentId ${ID} agent.ban`]);
  });

  it('S12: takes the old SVID until the new one is used, then refuses and audits the old once a minute', async () => {
    await renew('next');
    await world.agents.check(proof());
    await world.agents.check(proof({ serial: 'next' }));
    assert.equal((await findAgent(world.store, ID))?.serial, 'next');
    for (let n = 0; n < 3; n += 1)
      assert.equal(await reasonOf(world.agents.check(proof())), Reason.AGENT_NOT_ACTIVE);
    await world.refusals.flush();
    const alarms = (await world.events()).filter(
      ({ type }) => type === 'agent.superseded_svid_used',
    );
    assert.deepEqual(
      alarms.map(({ agentId, attributes }) => [agentId, attributes.count]),
      [[ID.toString(), '3']],
    );
  });

  it('S12: takes no alarm from a long call that outlives a renewal', async () => {
    await renew('next');
    await world.agents.check(proof({ serial: 'next' }));
    await assert.rejects(world.agents.recheck(proof()), { code: 'UNAVAILABLE' });
    await world.refusals.flush();
    assert.ok((await world.events()).every(({ type }) => type !== 'agent.superseded_svid_used'));
  });

  it('keeps one SVID beside the current one: a second renewal drops the first', async () => {
    await renew('lost');
    await renew('next');
    assert.equal(
      await reasonOf(world.agents.check(proof({ serial: 'lost' }))),
      Reason.AGENT_NOT_ACTIVE,
    );
    await world.agents.check(proof({ serial: 'next' }));
  });

  it('forgets an evicted agent, with the sessions it vouched for', async () => {
    await world.agents.evict(ID.toString(), OPERATOR);
    assert.equal(await reasonOf(world.agents.check(proof())), Reason.AGENT_NOT_ATTESTED);
    assert.deepEqual(await world.revoked(), [`agentId ${ID} agent.evict`]);
    await assert.rejects(world.agents.evict(ID.toString(), OPERATOR), { code: 'NOT_FOUND' });
  });
});
