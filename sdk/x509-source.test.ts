import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseTrustDomain, SpiffeId } from '../identity/spiffe-id.ts';
import { AgentUnderTest } from '../test/fakes/agent-under-test.ts';
import { FakeAuthority } from '../test/fakes/fake-authority.ts';
import { FakeSpireServer } from '../test/fakes/spire-server.ts';
import { fetchJwtSvid } from './jwt-source.ts';
import { WorkloadApiClient } from './workload-api-client.ts';
import { X509Source } from './x509-source.ts';

const td = parseTrustDomain('example.org');
const selectors = [{ type: 'unix', value: `uid:${process.getuid?.()}` }];
const entry = (id: string) => ({
  id,
  spiffeId: { trustDomain: td, path: `/${id}` },
  selectors,
  createdAt: 1n,
});

describe('sdk', () => {
  let server: FakeSpireServer;
  let agent: AgentUnderTest;
  let endpoint: string;
  beforeEach(async () => {
    const authority = await FakeAuthority.create(td);
    server = await FakeSpireServer.start({ authority, svidTtlMs: 4000 });
    agent = await AgentUnderTest.create(server);
    server.setEntries([entry('a'), entry('b')]);
    await agent.start();
    endpoint = `unix://${agent.socketPath}`;
  });
  afterEach(async () => {
    await agent[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });
  const signal = () => AbortSignal.timeout(8000);

  describe('X509Source', () => {
    it('holds the default identity and follows its rotation', async () => {
      await using source = await X509Source.connect({ endpoint, signal: signal() });
      assert.equal(String(source.svid.value.id), 'spiffe://example.org/a');
      assert.equal(source.bundle.value.trustDomain, td);
      const serials = new Set<string>();
      for await (const { serial } of source.svid.values(signal())) {
        serials.add(serial);
        if (serials.size === 2) break;
      }
      assert.equal(serials.size, 2);
    });

    it('holds the identity that is asked for, once there is one', async () => {
      const spiffeId = SpiffeId.parse('spiffe://example.org/c');
      const connecting = X509Source.connect({ endpoint, spiffeId, signal: signal() });
      await sleep(200);
      server.setEntries([entry('a'), entry('c')]);
      await using source = await connecting;
      assert.equal(String(source.svid.value.id), String(spiffeId));
    });

    it('tells of no change when another identity of the workload comes', async () => {
      await using source = await X509Source.connect({ endpoint, signal: signal() });
      const { serial } = source.svid.value;
      const stop = new AbortController();
      const told: string[] = [];
      const watching = (async () => {
        for await (const svid of source.svid.values(stop.signal)) told.push(svid.serial);
      })();
      await using client = new WorkloadApiClient(endpoint);
      server.setEntries([entry('a'), entry('b'), entry('c')]);
      for await (const { svids } of client.watchX509(signal())) if (svids.length === 3) break;
      await sleep(100);
      stop.abort();
      await watching.catch(() => undefined);
      assert.deepEqual(told, [serial]);
    });

    it('waits for an agent that is not up, and keeps its SVID while the agent is away', async () => {
      await agent.stop();
      const connecting = X509Source.connect({ endpoint, signal: signal() });
      await sleep(200);
      await agent.start();
      await using source = await connecting;
      const { serial } = source.svid.value;
      await agent.stop();
      await sleep(100);
      assert.equal(source.svid.value.serial, serial);
      await agent.start();
      const newer = new AbortController();
      setTimeout(() => newer.abort(), 8000).unref();
      for await (const svid of source.svid.values(newer.signal)) {
        if (svid.serial !== serial) newer.abort();
      }
      assert.notEqual(source.svid.value.serial, serial);
    }).timeout(20_000);

    it('stops waiting when its signal aborts', async () => {
      server.setEntries([]);
      await sleep(200);
      const connecting = X509Source.connect({ endpoint, signal: AbortSignal.timeout(300) });
      await assert.rejects(connecting, { status: 'CANCELLED' });
    });

    it('refuses an endpoint that is none', async () => {
      const bad = { endpoint: 'tcp://127.0.0.1:1', signal: signal() };
      await assert.rejects(X509Source.connect(bad), { code: 'INVALID_ARGUMENT' });
    });
  });

  describe('fetchJwtSvid', () => {
    it('fetches one of the default or the named identity, which the agent then validates', async () => {
      await using client = new WorkloadApiClient(endpoint);
      const first = await fetchJwtSvid(client, 'orders', { signal: signal() });
      assert.equal(String(first.id), 'spiffe://example.org/a');
      const spiffeId = SpiffeId.parse('spiffe://example.org/b');
      const second = await fetchJwtSvid(client, ['x', 'orders'], { spiffeId, signal: signal() });
      const { id, claims } = await client.validateJwtSvid(second.token, 'orders', signal());
      assert.equal(String(id), String(spiffeId));
      assert.deepEqual([...(claims.aud as string[])].sort(), ['orders', 'x']);
    });
  });

  describe('WorkloadApiClient', () => {
    it('watches the JWT bundles', async () => {
      await using client = new WorkloadApiClient(endpoint);
      for await (const bundles of client.watchJwtBundles(signal())) {
        assert.equal(bundles.get(td)?.jwtAuthorities[0]?.keyId, 'jwt-1');
        break;
      }
    });
  });
});
