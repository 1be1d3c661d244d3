import assert from 'node:assert/strict';
import { chmod, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseTrustDomain } from '../identity/spiffe-id.ts';
import { PermissionDeniedDetails_Reason } from '../proto/gen/spire/api/types/status_pb.ts';
import { AgentUnderTest } from '../test/fakes/agent-under-test.ts';
import { FakeAuthority } from '../test/fakes/fake-authority.ts';
import { type FakeServerOptions, FakeSpireServer } from '../test/fakes/spire-server.ts';

const td = parseTrustDomain('example.org');

describe('runAgent', () => {
  let authority: FakeAuthority;
  before(async () => {
    authority = await FakeAuthority.create(td);
  });
  const startServer = (options: Partial<FakeServerOptions> = {}) =>
    FakeSpireServer.start({ authority, ...options });

  it('attests once, and goes on with the SVID it kept when it starts again', async () => {
    await using server = await startServer();
    await using agent = await AgentUnderTest.create(server);
    await agent.start();
    const file = join(agent.directory, 'state', 'agent-svid.json');
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    assert.equal((await stat(join(agent.directory, 'state'))).mode & 0o777, 0o700);
    await agent.stop();
    await agent.start();
    assert.equal(server.calls.filter((name) => name === 'AttestAgent').length, 1);
  });

  it('speaks to nobody but the server that its join string was made for', async () => {
    await using server = await startServer();
    await using agent = await AgentUnderTest.create(server);
    const token = [...server.joinTokens][0];
    const joinString = `writ1.${token}.${'00'.repeat(32)}`;
    await assert.rejects(agent.start({ joinString }), { code: 'ATTESTATION_DENIED' });
    assert.deepEqual(server.calls, ['GetBundle']);
  });

  for (const [what, impostor] of [
    ['shows the right bundle without its key', { authority: 'other', name: 'server' }],
    ['has an SVID of the trust domain that is not the server', { authority: 'same', name: 'x' }],
  ] as const) {
    it(`gives no token to a server that ${what}`, async () => {
      await using server = await FakeSpireServer.start({
        authority: impostor.authority === 'same' ? authority : await FakeAuthority.create(td),
        shownBundle: authority.bundle.value,
        name: impostor.name,
      });
      await using genuine = await startServer();
      await using agent = await AgentUnderTest.create(server);
      const ended = agent.begin({ joinString: genuine.joinString() });
      await sleep(300);
      await agent.stop();
      await ended;
      assert.equal(server.joinTokens.size, 1);
      assert.ok(!server.calls.includes('AttestAgent'));
    });
  }

  it('waits for a server that is not up yet', async () => {
    await using server = await startServer();
    await using agent = await AgentUnderTest.create(server);
    await server.stop();
    const started = agent.start();
    await sleep(300);
    await server.listen();
    await started;
  });

  it('stops when its token is refused', async () => {
    await using server = await startServer();
    await using agent = await AgentUnderTest.create(server);
    const joinString = server.joinString('a-token-that-nobody-minted');
    await assert.rejects(agent.start({ joinString }), { code: 'JOIN_TOKEN_INVALID' });
  });

  it('says what is missing when there is neither SVID nor join string', async () => {
    await using server = await startServer();
    await using agent = await AgentUnderTest.create(server);
    await assert.rejects(agent.start({ joinString: '' }), { code: 'CONFIG_INVALID' });
  });

  it('renews its SVID in time, keeps the new one on disk, and never uses the old one again', async () => {
    await using server = await startServer({ agentTtlMs: 4000 });
    await using agent = await AgentUnderTest.create(server);
    await agent.start();
    const file = join(agent.directory, 'state', 'agent-svid.json');
    const first = await readFile(file, 'utf8');
    const poll = setInterval(() => server.push(), 20);
    await sleep(6000);
    clearInterval(poll);
    assert.notEqual(await readFile(file, 'utf8'), first);
    const order = server.serials.filter((serial, at, all) => serial !== all[at - 1]);
    assert.ok(order.length >= 2, 'renewed');
    assert.equal(new Set(order).size, order.length, 'each serial was used in one stretch');
  });

  it('renews its SVID when the authority that signed it is tainted, once', async () => {
    const own = await FakeAuthority.create(td);
    await using server = await FakeSpireServer.start({ authority: own });
    await using agent = await AgentUnderTest.create(server);
    await agent.start();
    await own.rotate({ taintOld: true });
    const [before] = server.serials;
    server.push();
    for (let n = 0; n < 100 && server.serials.at(-1) === before; n += 1) await sleep(50);
    const after = server.serials.at(-1);
    assert.notEqual(after, before);
    server.push();
    await sleep(500);
    assert.equal(server.serials.at(-1), after);
    assert.equal(server.calls.filter((name) => name === 'RenewAgent').length, 1);
  });

  for (const reason of ['EXPIRED', 'NOT_ATTESTED', 'NOT_ACTIVE', 'BANNED'] as const) {
    it(`deletes its SVID and stops at AGENT_${reason}`, async () => {
      await using server = await startServer();
      await using agent = await AgentUnderTest.create(server);
      const deny = () => {
        server.denial = PermissionDeniedDetails_Reason[`AGENT_${reason}`];
        server.push();
      };
      await assert.rejects(
        agent.begin({ onReady: deny }),
        /^Fault: the server refuses this agent: .*; its SVID is deleted/,
      );
      await assert.rejects(stat(join(agent.directory, 'state', 'agent-svid.json')));
    });
  }

  it('goes on trying at a PERMISSION_DENIED that gives no reason', async () => {
    await using server = await startServer();
    await using agent = await AgentUnderTest.create(server);
    await agent.start();
    server.denial = PermissionDeniedDetails_Reason.UNKNOWN;
    server.push();
    await sleep(300);
    server.denial = undefined;
    const before = server.calls.length;
    server.push();
    await sleep(1000);
    assert.ok(server.calls.slice(before).includes('SyncAuthorizedEntries'));
  });

  it('refuses a state directory that is open to others', async () => {
    await using server = await startServer();
    await using agent = await AgentUnderTest.create(server);
    await agent.start();
    await agent.stop();
    await chmod(join(agent.directory, 'state'), 0o755);
    await assert.rejects(agent.start(), { code: 'STATE_UNUSABLE' });
  });

  it('tells its health and what it counts', async () => {
    await using server = await startServer();
    await using agent = await AgentUnderTest.create(server);
    await agent.start();
    const get = async (path: string) => await fetch(`http://${agent.health}${path}`);
    assert.equal((await get('/ready')).status, 200);
    const metrics = await (await get('/metrics')).text();
    assert.match(metrics, /^writ_agent_syncs_total\{outcome="ok"\} \d+$/m);
    assert.match(metrics, /^writ_agent_svid_expiry_timestamp_seconds 1\d{9}$/m);
  });

  it('serves what it has when its own SVID ends with the server away, then stops', async () => {
    await using server = await startServer({ agentTtlMs: 3000, svidTtlMs: 6000 });
    await using agent = await AgentUnderTest.create(server);
    server.setEntries([
      {
        id: 'a',
        spiffeId: { trustDomain: td, path: '/a' },
        selectors: [{ type: 'unix', value: `uid:${process.getuid?.()}` }],
      },
    ]);
    let ended: Promise<void> = Promise.resolve();
    await new Promise<void>((resolve) => {
      ended = agent.begin({ onReady: resolve });
    });
    const outcome = assert.rejects(ended, { code: 'UNAUTHENTICATED' });
    const options = {
      signal: AbortSignal.timeout(9000),
      metadata: { 'workload.spiffe.io': 'true' },
    };
    const fetchOne = async () => {
      for await (const { svids } of agent.client().fetchX509SVID({}, options)) return svids.length;
      return 0;
    };
    assert.equal(await fetchOne(), 1);
    await server.stop();
    await sleep(3500);
    assert.equal(await fetchOne(), 1);
    await outcome;
  }).timeout(15_000);
});
