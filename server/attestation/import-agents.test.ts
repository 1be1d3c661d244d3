import assert from 'node:assert/strict';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { AgentSchema } from '../../proto/gen/spire/api/types/agent_pb.ts';
import { OPERATOR, RegistryWorld, TD } from '../../test/fixtures/registry-world.ts';
import { listAgents } from './agent-records.ts';
import { importAgents } from './import-agents.ts';

describe('importAgents', () => {
  let world: RegistryWorld;
  beforeEach(async () => {
    world = await RegistryWorld.open();
  });
  afterEach(() => world[Symbol.asyncDispose]());

  const seconds = (hours: number) => BigInt(world.clock.now().getTime() / 1000 + hours * 3600);
  const agent = (more: Exclude<MessageInitShape<typeof AgentSchema>, { $typeName: string }> = {}) =>
    create(AgentSchema, {
      id: { trustDomain: TD, path: '/spire/agent/x509pop/a' },
      attestationType: 'x509pop',
      x509svidSerialNumber: '255',
      x509svidExpiresAt: seconds(1),
      ...more,
    });
  const take = (...agents: ReturnType<typeof agent>[]) =>
    importAgents({ ...world, trustDomain: TD }, agents, OPERATOR);

  it('takes an agent once, with its serial as certificates have it', async () => {
    assert.deepEqual(await take(agent()), ['imported']);
    assert.deepEqual(await take(agent({ x509svidSerialNumber: '1' })), ['known']);
    const [found] = await listAgents(world.store);
    assert.deepEqual([found?.serial, found?.isBanned], ['ff', false]);
  });

  it('takes nobody whose SVID has ended, but who is banned', async () => {
    const ended = { x509svidExpiresAt: seconds(0) };
    assert.deepEqual(await take(agent(ended)), ['expired']);
    assert.deepEqual(await take(agent({ ...ended, banned: true })), ['imported']);
    assert.equal((await listAgents(world.store))[0]?.isBanned, true);
  });

  const malformed: [string, Parameters<typeof agent>[0], RegExp][] = [
    ['another trust domain', { id: { trustDomain: 'b.org', path: '/spire/agent/a/b' } }, /\.id/],
    ['no agent', { id: { trustDomain: TD, path: '/web' } }, /\.id: not an agent ID/],
    ['no attestor', { attestationType: '' }, /\.attestation_type/],
    ['a serial that is none', { x509svidSerialNumber: '0x1' }, /\.x509svid_serial_number/],
    ['an end after year 9999', { x509svidExpiresAt: 2n ** 62n }, /\.x509svid_expires_at/],
    ['an end before 1970', { x509svidExpiresAt: -1n }, /\.x509svid_expires_at/],
    ['a selector without type', { selectors: [{ type: '', value: 'a' }] }, /\.selectors/],
  ];
  for (const [what, more, message] of malformed)
    it(`refuses ${what}, and names the place`, async () => {
      await assert.rejects(
        take(agent({ id: { trustDomain: TD, path: '/spire/agent/a/b' } }), agent(more)),
        {
          code: 'INVALID_ARGUMENT',
          message: new RegExp(`^agents\\[1\\]${message.source}`),
        },
      );
      assert.deepEqual(await listAgents(world.store), []);
    });
});
