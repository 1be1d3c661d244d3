import assert from 'node:assert/strict';
import { createCsr } from '../../identity/x509/csr.ts';
import { generateKey } from '../../identity/x509/key.ts';
import { x509Svid } from '../../identity/x509-svid.ts';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Bundle } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import type { PermissionDeniedDetails_Reason as Reason } from '../../proto/gen/spire/api/types/status_pb.ts';
import { entryInit, TD } from '../../test/fixtures/registry-world.ts';
import {
  CALL,
  denialOf,
  firstSync,
  RunningServer,
  until,
} from '../../test/fixtures/running-server.ts';

describe('agentService', () => {
  let server: RunningServer;
  before(async () => {
    server = await RunningServer.start();
  });
  after(() => server[Symbol.asyncDispose]());

  it('spends a token once when eight agents race with it', async () => {
    const { value } = await server.admin(Agent).createJoinToken({ ttl: 60, token: '' }, CALL);
    assert.match(value, /^[0-9a-f-]{36}$/);
    const races = await Promise.allSettled(Array.from({ length: 8 }, () => server.attest(value)));
    assert.equal(races.filter(({ status }) => status === 'fulfilled').length, 1);
    await assert.rejects(server.attest(value), { status: 'INVALID_ARGUMENT' });
    await assert.rejects(server.attest('never made'), { status: 'INVALID_ARGUMENT' });
  });

  it('gives the entries of a node alias to the agent that spends its token, until it is evicted', async () => {
    const alias = `spiffe://${TD}/node/one`;
    const { svid, channel } = await server.newAgent(alias);
    const entry = await server.createEntry(entryInit({ path: '/on-node', parent: '/node/one' }));
    const { entries } = await firstSync(channel);
    assert.ok(entries.some(({ id }) => id === entry.id));
    const aliasEntry = entries.find(({ spiffeId }) => spiffeId?.path === '/node/one');
    assert.deepEqual(
      aliasEntry?.selectors.map(({ type, value }) => [type, value]),
      [['spiffe_id', svid.id.toString()]],
    );
    await server.admin(Agent).deleteAgent({ id: { trustDomain: TD, path: svid.id.path } }, CALL);
    await assert.rejects(server.admin(Entry).getEntry({ id: aliasEntry?.id ?? '' }, CALL), {
      status: 'NOT_FOUND',
    });
  });

  it('lets an operator name an agent by the join token it spent, as with SPIRE', async () => {
    const { value } = await server.admin(Agent).createJoinToken({ ttl: 60, token: '' }, CALL);
    const path = `/spire/agent/join_token/${value}`;
    const entry = await server.createEntry(entryInit({ path: '/by-token', parent: path }));
    const svid = await server.attest(value);
    assert.ok(!svid.id.path.includes(value));
    const { entries } = await firstSync(await server.dial(svid));
    assert.deepEqual(
      entries.map(({ id }) => id),
      [entry.id],
    );
    const id = { trustDomain: TD, path };
    assert.equal((await server.admin(Agent).getAgent({ id }, CALL)).id?.path, svid.id.path);
    await server.admin(Agent).deleteAgent({ id }, CALL);
    await assert.rejects(server.admin(Agent).getAgent({ id }, CALL), { status: 'NOT_FOUND' });
  });

  it('S12: takes the old SVID until the new one is used, and alarms when it comes again', async () => {
    const { svid, channel } = await server.newAgent();
    const key = await generateKey('ec-p256');
    const { svid: renewed } = await channel
      .client(Agent)
      .renewAgent({ params: { csr: createCsr(key) } }, CALL);
    await firstSync(channel);
    const next = await server.dial(x509Svid(renewed?.certChain ?? [], key));
    await firstSync(next);
    assert.equal(await denialOf(firstSync(channel)), 3 satisfies Reason);
    assert.equal(await denialOf(firstSync(channel)), 3 satisfies Reason);
    await firstSync(next);
    const alarms = async () =>
      (await server.events()).filter(
        ({ type, agentId }) =>
          type === 'agent.superseded_svid_used' && agentId === svid.id.toString(),
      );
    await until(async () => (await alarms()).length > 0);
    assert.equal((await alarms()).length, 1);
  });

  it('shuts a banned agent out at its next call, for good until it is deleted', async () => {
    const { svid, channel } = await server.newAgent();
    const id = { trustDomain: TD, path: svid.id.path };
    await firstSync(channel);
    await server.admin(Agent).banAgent({ id }, CALL);
    assert.equal(await denialOf(firstSync(channel)), 4 satisfies Reason);
    const shown = await server.admin(Agent).getAgent({ id }, CALL);
    assert.deepEqual([shown.banned, shown.x509svidSerialNumber], [true, '']);
    await server.admin(Agent).deleteAgent({ id }, CALL);
    assert.equal(await denialOf(firstSync(channel)), 2 satisfies Reason);
  });

  it("lists and counts agents and bundles as SPIRE's CLI asks for them", async () => {
    const { svid } = await server.newAgent();
    const agents = server.admin(Agent);
    const { count } = await agents.countAgents({}, CALL);
    const listed = [];
    for (let pageToken = ''; ; ) {
      const page = await agents.listAgents({ pageSize: 2, pageToken }, CALL);
      listed.push(...page.agents.map(({ id }) => id?.path));
      pageToken = page.nextPageToken;
      if (pageToken === '') break;
    }
    assert.deepEqual([new Set(listed).size, listed.length], [count, count]);
    assert.ok(listed.includes(svid.id.path));
    const soon = '2020-01-02 15:04:05 +0000 UTC';
    assert.equal((await agents.countAgents({ filter: { byExpiresBefore: soon } }, CALL)).count, 0);
    assert.equal((await server.admin(Bundle).countBundles({}, CALL)).count, 1);
    assert.deepEqual((await server.admin(Bundle).listFederatedBundles({}, CALL)).bundles, []);
    const other = server.admin(Bundle).getFederatedBundle({ trustDomain: 'other.org' }, CALL);
    await assert.rejects(other, { status: 'NOT_FOUND' });
  });
});
