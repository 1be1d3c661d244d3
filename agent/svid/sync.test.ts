import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseTrustDomain } from '../../identity/spiffe-id.ts';
import { AgentUnderTest, fasterClock } from '../../test/fakes/agent-under-test.ts';
import { FakeAuthority } from '../../test/fakes/fake-authority.ts';
import { type FakeServerOptions, FakeSpireServer } from '../../test/fakes/spire-server.ts';

const td = parseTrustDomain('example.org');
const entry = (id: string, revisionNumber = 0n) => ({
  id,
  spiffeId: { trustDomain: td, path: `/${id}` },
  selectors: [{ type: 'unix', value: `uid:${process.getuid?.()}` }],
  revisionNumber,
  createdAt: 1n,
});

describe('ServerSync', () => {
  const setUp = async (
    options: Omit<FakeServerOptions, 'authority'>,
    body: (server: FakeSpireServer, agent: AgentUnderTest) => Promise<void>,
  ) => {
    const authority = await FakeAuthority.create(td);
    await using server = await FakeSpireServer.start({ authority, ...options });
    await using agent = await AgentUnderTest.create(server);
    await body(server, agent);
  };
  const until = async (condition: () => boolean, milliseconds = 20_000) => {
    const end = performance.now() + milliseconds;
    while (!condition()) {
      assert.ok(performance.now() < end, `not so within ${milliseconds} ms: ${condition}`);
      await sleep(20);
    }
  };
  const issued = ({ batches }: FakeSpireServer) => batches.reduce((sum, size) => sum + size, 0);

  it('asks for SVIDs as soon as the server tells of a change', () =>
    setUp({}, async (server, agent) => {
      await agent.start();
      await until(() => server.calls.includes('WatchEntries'));
      server.setEntries([entry('a')]);
      await until(() => issued(server) === 1, 1000);
    }));

  it('asks a server that cannot push every five seconds', () =>
    setUp({ pushes: false }, async (server, agent) => {
      await agent.start({ clock: fasterClock(20) });
      server.setEntries([entry('a')]);
      await until(() => issued(server) === 1, 2000);
      const syncs = () => server.calls.filter((name) => name === 'SyncAuthorizedEntries').length;
      const before = syncs();
      await sleep(1500);
      assert.ok(syncs() - before >= 2 && syncs() - before <= 8, `${syncs() - before} syncs`);
    }));

  it('fetches many entries by pages, their SVIDs by 500, and later only what has changed', () =>
    setUp({}, async (server, agent) => {
      const all = Array.from({ length: 1200 }, (_, at) => entry(`m${at}`));
      server.setEntries(all);
      await agent.start();
      await until(() => issued(server) === 1200);
      assert.deepEqual(server.batches, [500, 500, 200]);
      assert.deepEqual(server.idRequests, [500, 500, 200]);
      server.setEntries([...all.slice(0, -1), entry('m1199', 1n)]);
      await until(() => issued(server) === 1201);
      assert.deepEqual(server.idRequests.slice(3), [1]);
      assert.deepEqual(server.batches.slice(3), [1]);
    })).timeout(30_000);

  it('gets in step again with a server that was away', () =>
    setUp({}, async (server, agent) => {
      await agent.start();
      await server.stop();
      server.setEntries([entry('a')]);
      await sleep(500);
      await server.listen();
      await until(() => issued(server) === 1, 10_000);
    })).timeout(15_000);
});
