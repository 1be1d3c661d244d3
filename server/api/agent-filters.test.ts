import assert from 'node:assert/strict';
import type { MessageInitShape } from '@bufbuild/protobuf';
import {
  Agent,
  type ListAgentsRequest_FilterSchema,
} from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { SelectorMatch_MatchBehavior as Match } from '../../proto/gen/spire/api/types/selector_pb.ts';
import { AgentRegistryService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { TD } from '../../test/fixtures/registry-world.ts';
import { CALL, RunningServer } from '../../test/fixtures/running-server.ts';

type Filter = MessageInitShape<typeof ListAgentsRequest_FilterSchema>;

const HOUR = 3600;

/** Name, type, whether it can attest anew, banned, expiry in hours from now, selectors. */
const AGENTS = [
  ['a', 'x509pop', true, false, 1, ['rack:1', 'zone:b']],
  ['b', 'x509pop', true, true, 2, ['rack:1']],
  ['c', 'k8s_psat', true, false, 3, ['rack:2', 'zone:b', 'row:7']],
  ['d', 'sshpop', false, false, 4, []],
] as const;

describe('agentService, by filter', () => {
  let server: RunningServer;
  const now = Math.floor(Date.now() / 1000);
  before(async () => {
    server = await RunningServer.start();
    const agents = AGENTS.map(([name, type, canReattest, banned, hours, selectors], at) => ({
      id: { trustDomain: TD, path: `/spire/agent/${type}/${name}` },
      attestationType: type,
      x509svidSerialNumber: String(1000 + at),
      x509svidExpiresAt: BigInt(now + hours * HOUR),
      selectors: selectors.map((value) => ({ type: 'node', value })),
      banned,
      canReattest,
    }));
    await server.admin(AgentRegistryService).importAgents({ agents }, CALL);
  });
  after(() => server[Symbol.asyncDispose]());

  const listed = async (filter: Filter) => {
    const client = server.admin(Agent);
    const { agents } = await client.listAgents({ filter, outputMask: {} }, CALL);
    const { $typeName, ...same } = { $typeName: '', ...filter };
    const { count } = await client.countAgents({ filter: same }, CALL);
    assert.equal(count, agents.length);
    return agents
      .map(({ id }) => id?.path.at(-1))
      .sort()
      .join('');
  };
  const bySelectors = (match: Match, ...values: readonly string[]) =>
    listed({
      bySelectorMatch: { match, selectors: values.map((value) => ({ type: 'node', value })) },
    });

  it('finds them by type, ban, and whether they can attest anew', async () => {
    assert.equal(await listed({}), 'abcd');
    assert.equal(await listed({ byAttestationType: 'x509pop' }), 'ab');
    assert.equal(await listed({ byBanned: true }), 'b');
    assert.equal(await listed({ byBanned: false }), 'acd');
    assert.equal(await listed({ byCanReattest: false }), 'd');
    assert.equal(await listed({ byAttestationType: 'x509pop', byBanned: false }), 'a');
  });

  it('finds them by selectors in all four ways', async () => {
    assert.equal(await bySelectors(Match.MATCH_EXACT, 'zone:b', 'rack:1'), 'a');
    assert.equal(await bySelectors(Match.MATCH_SUBSET, 'rack:1', 'zone:b'), 'ab');
    assert.equal(await bySelectors(Match.MATCH_SUPERSET, 'zone:b'), 'ac');
    assert.equal(await bySelectors(Match.MATCH_ANY, 'rack:1', 'row:7'), 'abc');
    await assert.rejects(bySelectors(Match.MATCH_ANY), { status: 'INVALID_ARGUMENT' });
  });

  it("finds them by their end, as SPIRE's command line writes a time", async () => {
    const written = (seconds: number) => {
      const iso = new Date(seconds * 1000).toISOString();
      return `${iso.slice(0, 10)} ${iso.slice(11, 19)} +0000 UTC`;
    };
    assert.equal(await listed({ byExpiresBefore: written(now + 2.5 * HOUR) }), 'ab');
    // The same instant, told from two hours east.
    const east = written(now + 4.5 * HOUR).replace('+0000 UTC', '+0200 +02');
    assert.equal(await listed({ byExpiresBefore: east }), 'ab');
    for (const bad of ['tomorrow', '2026-13-01 00:00:00 +0000 UTC', '2026-01-01T00:00:00Z'])
      await assert.rejects(listed({ byExpiresBefore: bad }), {
        status: 'INVALID_ARGUMENT',
        message: /by_expires_before/,
      });
  });

  it('tells what the mask asks for, and always the id', async () => {
    const id = { trustDomain: TD, path: '/spire/agent/x509pop/a' };
    const client = server.admin(Agent);
    const masked = await client.getAgent({ id, outputMask: { canReattest: true } }, CALL);
    assert.equal(masked.id?.path, id.path);
    assert.deepEqual(
      [masked.canReattest, masked.attestationType, masked.selectors],
      [true, '', []],
    );
    const whole = await client.getAgent({ id }, CALL);
    assert.deepEqual(
      [whole.x509svidSerialNumber, whole.x509svidExpiresAt],
      ['1000', BigInt(now + HOUR)],
    );
  });

  it('makes a join token as it is told, with a time to live that it asks for', async () => {
    const client = server.admin(Agent);
    for (const ttl of [0, -1])
      await assert.rejects(client.createJoinToken({ ttl, token: '' }, CALL), {
        status: 'INVALID_ARGUMENT',
      });
    const { value, expiresAt } = await client.createJoinToken({ ttl: 60, token: 'my own' }, CALL);
    assert.equal(value, 'my own');
    assert.ok(Math.abs(Number(expiresAt) - (Date.now() / 1000 + 60)) < 30);
    await assert.rejects(client.createJoinToken({ ttl: 60, token: 'my own' }, CALL), {
      status: 'ALREADY_EXISTS',
    });
    await assert.rejects(client.createJoinToken({ ttl: 60, token: 'x'.repeat(513) }, CALL), {
      status: 'INVALID_ARGUMENT',
    });
  });
});
