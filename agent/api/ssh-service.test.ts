import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { copyFile, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { timestampDate } from '@bufbuild/protobuf/wkt';
import { parseTrustDomain } from '../../identity/spiffe-id.ts';
import { parseSshCertificate } from '../../identity/ssh/certificate.ts';
import { encodePublicKey } from '../../identity/ssh/public-key.ts';
import { systemClock } from '../../runtime/clock.ts';
import { AgentUnderTest } from '../../test/fakes/agent-under-test.ts';
import { FakeAuthority } from '../../test/fakes/fake-authority.ts';
import { FakeSpireServer } from '../../test/fakes/spire-server.ts';
import { SshAuthorities } from '../../test/fakes/ssh-authorities.ts';

const td = parseTrustDomain('example.org');
const uid = { type: 'unix', value: `uid:${process.getuid?.()}` };
const entry = (id: string, ...selectors: object[]) => ({
  id,
  spiffeId: { trustDomain: td, path: `/${id}` },
  selectors: [uid, ...selectors],
});
const HEADER = { 'workload.spiffe.io': 'true' };

/** Asks for GetSshAccess without a body and prints the status of the call. */
const ASK = `
  const session = require('node:http2').connect('http://localhost',
    { createConnection: () => require('node:net').connect(process.argv[1]) });
  const call = session.request({ ':method': 'POST', ':path': '/writ.agent.v1.SshService/GetSshAccess',
    'content-type': 'application/grpc', te: 'trailers', 'workload.spiffe.io': 'true' });
  const note = (headers) => headers['grpc-status'] && console.log(headers['grpc-status']);
  call.on('response', note); call.on('trailers', note); call.resume();
  call.on('close', () => process.exit()); call.end(Buffer.alloc(5));`;

describe('sshService', () => {
  const ssh = new SshAuthorities(systemClock);
  const publicKey = encodePublicKey(generateKeyPairSync('ed25519').privateKey);
  const never = new AbortController().signal;
  const options = { signal: never, metadata: HEADER };
  let authority: FakeAuthority;
  let server: FakeSpireServer;
  let agent: AgentUnderTest;

  before(async () => {
    authority = await FakeAuthority.create(td);
    server = await FakeSpireServer.start({ authority, ssh });
    agent = await AgentUnderTest.create(server);
    await agent.start();
  });
  after(async () => {
    await agent[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });
  afterEach(() => {
    server.refusals.clear();
    server.sshChange = {};
    server.sshDelayMs = 0;
  });

  const holdEntries = async (...entries: ReturnType<typeof entry>[]) => {
    server.setEntries(entries);
    const wanted = entries.map(({ id }) => id);
    for (let n = 0; n < 200; n += 1) {
      server.targetRequests.length = 0;
      await agent
        .sshClient()
        .getSshAccess({}, options)
        .catch(() => undefined);
      const [asked = []] = server.targetRequests;
      if (JSON.stringify(asked) === JSON.stringify(wanted)) return;
      await sleep(20);
    }
    assert.fail(`the agent does not come to hold ${wanted}`);
  };
  const issue = (request: { publicKey?: Uint8Array; spiffeId?: string } = {}) =>
    agent.sshClient().issueSshCertificate({ publicKey, ...request }, options);

  describe('IssueSshCertificate', () => {
    it("certifies the caller's own key for its first identity, or the one that it names", async () => {
      await holdEntries(entry('a'), entry('b'));
      for (const [spiffeId, expected] of [
        ['', 'spiffe://example.org/a'],
        ['spiffe://example.org/b', 'spiffe://example.org/b'],
      ] as const) {
        const answer = await issue({ spiffeId });
        const certificate = parseSshCertificate(answer.certificate);
        assert.equal(answer.spiffeId, expected);
        assert.deepEqual(certificate.principals, [expected]);
        assert.deepEqual(certificate.publicKey, publicKey);
        assert.deepEqual(answer.hostAuthorities.map(Buffer.from), ssh.keys.host.map(Buffer.from));
        assert.ok(answer.expiresAt);
        assert.deepEqual(timestampDate(answer.expiresAt), certificate.validBefore);
      }
    });

    it('signs anew for each call, and for keys of any kind that we take', async () => {
      await holdEntries(entry('a'));
      const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
      const serials = new Set<bigint>();
      for (const key of [publicKey, publicKey, encodePublicKey(rsa)]) {
        serials.add(parseSshCertificate((await issue({ publicKey: key })).certificate).serial);
      }
      assert.equal(serials.size, 3);
    });

    it('asks for a few of one user at a time, whoever else wants some', async () => {
      await holdEntries(entry('a'));
      server.sshDelayMs = 300;
      server.calls.length = 0;
      const client = agent.sshClient();
      const own = () => ({ ...options, signal: new AbortController().signal });
      const all = Array.from({ length: 20 }, () =>
        client.issueSshCertificate({ publicKey }, own()),
      );
      await sleep(250);
      const asked = server.calls.filter((name) => name === 'SignSshCertificate').length;
      assert.ok(asked > 0 && asked <= 8, `${asked} at once`);
      assert.equal((await Promise.all(all)).length, 20);
    });

    it('refuses what is no key, a key too long, and a malformed name', async () => {
      await holdEntries(entry('a'));
      const calls = server.calls.length;
      const certificate = ssh.issueUser('spiffe://example.org/a', publicKey);
      for (const request of [
        { publicKey: new Uint8Array() },
        { publicKey: Buffer.from('ssh-ed25519') },
        { publicKey: Buffer.alloc(16_385) },
        { publicKey: certificate },
        { spiffeId: 'example.org/a' },
      ]) {
        await assert.rejects(issue(request), { status: 'INVALID_ARGUMENT' });
      }
      assert.equal(server.calls.length, calls, 'the server was not asked');
    });

    it('refuses an identity of somebody else, and a caller that has none', async () => {
      await holdEntries(entry('a'));
      const spiffeId = 'spiffe://example.org/b';
      await assert.rejects(issue({ spiffeId }), { status: 'PERMISSION_DENIED' });
      server.setEntries([entry('other', { type: 'unix', value: 'path:/bin/another' })]);
      for (let n = 0; n < 100; n += 1) {
        if (await issue().catch(({ status }) => status === 'PERMISSION_DENIED')) break;
        await sleep(20);
      }
      await assert.rejects(issue(), {
        status: 'PERMISSION_DENIED',
        message: 'no identity issued',
      });
      await assert.rejects(agent.sshClient().getSshAccess({}, options), {
        status: 'PERMISSION_DENIED',
      });
    });

    it('never certifies for an identity that Writ keeps for itself', async () => {
      const reserved = { ...entry('g'), spiffeId: { trustDomain: td, path: '/writ/gateway/g' } };
      await holdEntries(entry('a'));
      server.setEntries([entry('a'), reserved]);
      await sleep(200);
      const named = issue({ spiffeId: 'spiffe://example.org/writ/gateway/g' });
      await assert.rejects(named, { status: 'PERMISSION_DENIED' });
      assert.equal((await issue()).spiffeId, 'spiffe://example.org/a');
    });

    it('passes on that the server refuses, and no certificate that is not what was asked', async () => {
      await holdEntries(entry('a'));
      server.refusals.set('a', 7);
      await assert.rejects(issue(), { status: 'PERMISSION_DENIED' });
      server.refusals.clear();
      server.sshChange = {
        keyId: 'spiffe://example.org/b',
        principals: ['spiffe://example.org/b'],
      };
      await assert.rejects(issue(), {
        status: 'UNAVAILABLE',
        message: 'no SSH certificate can be issued now',
      });
    });

    it('says UNAVAILABLE when the server is away', async () => {
      await holdEntries(entry('a'));
      await server.stop();
      await assert.rejects(issue(), { status: 'UNAVAILABLE' });
      await server.listen();
      for (let n = 0; n < 200; n += 1) {
        if ((await issue().catch(() => undefined)) !== undefined) return;
        await sleep(50);
      }
      assert.fail('the agent did not come back');
    });
  });

  describe('GetSshAccess', () => {
    it("tells targets, authorities and the agent's socket, for all identities of the caller", async () => {
      const gateways = [{ name: 'main', hosts: ['127.0.0.1'], port: 2222 }];
      server.sshTargets = [{ backend: 'web-1', logins: ['deploy'], gateways }];
      await holdEntries(entry('a'), entry('b'));
      const access = await agent.sshClient().getSshAccess({}, options);
      const [target] = access.targets;
      assert.deepEqual([target?.backend, target?.logins], ['web-1', ['deploy']]);
      assert.deepEqual(target?.gateways[0]?.hosts, ['127.0.0.1']);
      assert.equal(target?.gateways[0]?.port, 2222);
      assert.equal(access.agentSocket, agent.sshAgentPath);
      assert.equal(access.hostAuthorities.length, 1);
    });

    it('attests the programs that have started the caller', async () => {
      const directory = await realpath(await mkdtemp(join(tmpdir(), 'writ-ssh-')));
      try {
        const program = join(directory, 'program');
        await copyFile('/bin/sh', program);
        await holdEntries(entry('a'));
        const path = { type: 'unix', value: `path:${program}` };
        server.setEntries([entry('x', { type: 'unix', value: 'path:/x' }), entry('p', path)]);
        await sleep(200);
        const run = async (shell: string) => {
          const command = '"$0" -e "$1" "$2"; :';
          const args = ['-c', command, process.execPath, ASK, agent.socketPath];
          return (await promisify(execFile)(shell, args)).stdout.trim();
        };
        assert.equal(await run('sh'), '7');
        assert.equal(await run(program), '0');
        assert.deepEqual(server.targetRequests.at(-1), ['p']);
      } finally {
        await rm(directory, { recursive: true });
      }
    });
  });

  it('wants the security header of the Workload API', async () => {
    const bare = { signal: never };
    const refused = { status: 'INVALID_ARGUMENT', message: /security header missing/ };
    const client = agent.sshClient();
    await assert.rejects(client.getSshAccess({}, bare), refused);
    await assert.rejects(client.issueSshCertificate({ publicKey }, bare), refused);
  });

  it('says that a server without SSH has none, and says so for each call', async () => {
    await using spire = await FakeSpireServer.start({ authority });
    await using other = await AgentUnderTest.create(spire);
    spire.setEntries([entry('a')]);
    await other.start();
    const client = other.sshClient();
    const unavailable = {
      status: 'UNAVAILABLE',
      message: 'the server issues no SSH certificates',
    };
    await assert.rejects(client.issueSshCertificate({ publicKey }, options), unavailable);
    await assert.rejects(client.getSshAccess({}, options), unavailable);
  });

  describe('its metrics', () => {
    it('count its calls by method', async () => {
      const text = await (await fetch(`http://${agent.health}/metrics`)).text();
      for (const method of ['IssueSshCertificate', 'GetSshAccess']) {
        const line = `writ_agent_workload_calls_total{method="${method}",code="OK"}`;
        assert.ok(text.includes(line), line);
      }
    });
  });
});
