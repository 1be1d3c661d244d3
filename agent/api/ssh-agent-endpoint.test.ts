import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { stat, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseTrustDomain } from '../../identity/spiffe-id.ts';
import { isSshCertificate, parseSshCertificate } from '../../identity/ssh/certificate.ts';
import { opensshPrivateKey } from '../../identity/ssh/private-key.ts';
import { encodePublicKey } from '../../identity/ssh/public-key.ts';
import { AgentUnderTest } from '../../test/fakes/agent-under-test.ts';
import { FakeAuthority } from '../../test/fakes/fake-authority.ts';
import { FakeSpireServer } from '../../test/fakes/spire-server.ts';
import { hasProgram, skipWithout } from '../../test/fixtures/programs.ts';
import { AGENT_FAILURE, SshAgentClient } from '../../test/fixtures/ssh-agent-client.ts';
import { SshAgentWorld, sshEntry } from '../../test/fixtures/ssh-agent-world.ts';

const td = parseTrustDomain('example.org');
const uid = { type: 'unix', value: `uid:${process.getuid?.()}` };

describe('listenSshAgent', () => {
  let world: SshAgentWorld;
  before(async () => {
    world = await SshAgentWorld.start();
  });
  after(() => world[Symbol.asyncDispose]());
  afterEach(() => {
    world.server.refusals.clear();
    world.server.sshChange = {};
  });

  const untilIssued = async (id: string) => {
    const publicKey = encodePublicKey(generateKeyPairSync('ed25519').privateKey);
    const options = {
      signal: new AbortController().signal,
      metadata: { 'workload.spiffe.io': 'true' },
    };
    for (let n = 0; n < 200; n += 1) {
      const request = { publicKey, spiffeId: `spiffe://example.org/${id}` };
      const issued = world.agent.sshClient().issueSshCertificate(request, options);
      if ((await issued.catch(() => undefined)) !== undefined) return;
      await sleep(20);
    }
    assert.fail(`no certificate of ${id}`);
  };

  it('opens its socket to everybody', async () => {
    assert.equal((await stat(world.agent.sshAgentPath)).mode & 0o777, 0o777);
  });

  describe('offers', () => {
    it('are certificates alone, commented with their SPIFFE IDs, the same while they are fresh', async () => {
      world.server.setEntries([
        sshEntry('b'),
        sshEntry('a'),
        sshEntry('c', { selectors: [uid, { type: 'unix', value: 'path:/x' }] }),
      ]);
      await world.untilOffered('a', 'b');
      using client = await world.connect();
      const offered = await client.identities();
      for (const { publicKey, comment } of offered) {
        assert.ok(isSshCertificate(publicKey));
        assert.equal(parseSshCertificate(publicKey).keyId, comment);
      }
      using other = await world.connect();
      assert.deepEqual(await other.identities(), offered);
    });

    it('are of six identities at most, and refused ones take no place', async () => {
      const ids = ['m1', 'm2', 'm3', 'm4', 'm5', 'm6', 'm7', 'm8', 'm9'];
      world.server.refusals.set('m2', 7).set('m4', 7);
      world.server.setEntries(ids.map((id) => sshEntry(id)));
      await world.untilOffered('m1', 'm3', 'm5', 'm6', 'm7', 'm8');
    });

    it('are of those first that may log in somewhere', async () => {
      const ids = ['p1', 'p2', 'p3', 'p4', 'p5', 'p6', 'p7', 'p8'];
      const spiffeIds = ['spiffe://example.org/p8', 'spiffe://example.org/p5'];
      world.server.sshTargets = [{ backend: 'web-1', logins: ['deploy'], spiffeIds }];
      world.server.setEntries(ids.map((id) => sshEntry(id)));
      await world.untilOffered('p5', 'p8', 'p1', 'p2', 'p3', 'p4');
      world.server.setEntries(['p4', 'p5'].map((id) => sshEntry(id)));
      await world.untilOffered('p5', 'p4');
      world.server.sshTargets = [];
    });

    it('have one for each SPIFFE ID, and none that Writ keeps for itself', async () => {
      const path = (value: string) => ({ spiffeId: { trustDomain: td, path: value } });
      world.server.setEntries([
        sshEntry('a', path('/same')),
        sshEntry('b', path('/same')),
        sshEntry('c', path('/writ/gateway/main')),
        sshEntry('d', path('/spire/server')),
      ]);
      await world.untilOffered('same');
    });

    it('are none without an identity', async () => {
      world.server.setEntries([]);
      await world.untilOffered();
    });

    it('are none when the server cannot be reached, and there again when it can', async () => {
      world.server.setEntries([sshEntry('away')]);
      // Asks for a certificate of the caller's own key, which the agent does not keep.
      await untilIssued('away');
      await world.server.stop();
      assert.deepEqual(await world.offered(), []);
      await world.server.listen();
      await world.untilOffered('away');
    });

    it('are none when the server signs something else than what it was asked', async () => {
      world.server.setEntries([sshEntry('wrong')]);
      await untilIssued('wrong');
      const asked = () => world.server.calls.filter((name) => name === 'SignSshCertificate').length;
      const { privateKey } = generateKeyPairSync('ed25519');
      for (const change of [
        { publicKey: encodePublicKey(privateKey) },
        { keyId: 'spiffe://example.org/x', principals: ['spiffe://example.org/x'] },
        { principals: ['spiffe://example.org/wrong', 'root'] },
        { type: 'host' },
        { validAfter: new Date(1000), validBefore: new Date(2000) },
      ] as const) {
        world.server.sshChange = change;
        const before = asked();
        // A second after the last failure, by a clock that is five times as fast.
        for (let n = 0; n < 200 && asked() === before; n += 1) {
          assert.deepEqual(await world.offered(), [], JSON.stringify(Object.keys(change)));
          await sleep(20);
        }
        assert.equal(asked(), before + 1);
      }
      world.server.sshChange = {};
      await world.untilOffered('wrong');
    });
  });

  describe('messages', () => {
    beforeEach(async () => {
      world.server.setEntries([sshEntry('a')]);
      await world.untilOffered('a');
    });

    it('that add, remove or lock keys are refused', async function () {
      if (!hasProgram('ssh-add')) skipWithout(this, 'ssh-add');
      const key = join(world.directory, 'key');
      const { privateKey } = generateKeyPairSync('ed25519');
      await writeFile(key, opensshPrivateKey(privateKey), { mode: 0o600 });
      for (const args of [[key], ['-D'], ['-t', '60', key], ['-c', key]]) {
        const { status } = await world.run(['ssh-add', ...args]);
        assert.notEqual(status, 0, args.join(' '));
      }
      assert.deepEqual(await world.offered(), ['a']);
    });

    it('that make no sense are refused, and the next is answered', async () => {
      using client = await world.connect();
      for (const message of [
        Buffer.of(13),
        Buffer.of(27),
        Buffer.of(11, 0),
        Buffer.of(255),
        Buffer.concat([Buffer.of(13), Buffer.alloc(1000, 0xff)]),
        Buffer.concat([Buffer.of(27, 0, 0, 0, 1), Buffer.from('x')]),
      ]) {
        assert.deepEqual(await client.ask(message), Buffer.of(AGENT_FAILURE));
      }
      assert.equal((await client.identities()).length, 1);
      const extensions = await client.ask(Buffer.of(27, 0, 0, 0, 5, ...Buffer.from('query')));
      assert.match(extensions.toString('latin1'), /session-bind@openssh\.com/);
    });

    it('may come in pieces, or several at once', async () => {
      using client = await world.connect();
      for (const byte of [0, 0, 0, 1]) client.socket.write(Buffer.of(byte));
      await sleep(50);
      client.socket.write(Buffer.of(11, 0, 0, 0, 1, 11, 0, 0, 0, 1, 255));
      assert.equal((await client.answer())[0], 12);
      assert.equal((await client.answer())[0], 12);
      assert.deepEqual(await client.answer(), Buffer.of(AGENT_FAILURE));
    });

    for (const [what, bytes] of [
      ['empty', Buffer.alloc(4)],
      ['longer than 256 KiB', Buffer.of(0, 4, 0, 1)],
      ['longer than memory', Buffer.of(255, 255, 255, 255)],
      ['of another protocol', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ] as const) {
      it(`that are ${what} close the connection, and the next is served`, async () => {
        using client = await world.connect();
        client.socket.write(bytes);
        await assert.rejects(client.answer(), /hung up/);
        assert.deepEqual(await world.offered(), ['a']);
      });
    }

    it('that one client sends without end keep nobody waiting', async () => {
      const flood = net.connect(world.agent.sshAgentPath);
      await once(flood, 'connect');
      let answered = 0;
      flood.on('data', (bytes: Buffer) => {
        answered += bytes.length;
      });
      const [question, failure] = [
        Buffer.of(0, 0, 0, 1, 255),
        Buffer.of(0, 0, 0, 1, AGENT_FAILURE),
      ];
      const count = 10_000;
      flood.write(Buffer.concat(Array.from({ length: count }, () => question)));
      await sleep(20);
      assert.deepEqual(await world.offered(), ['a']);
      assert.ok(answered > 0 && answered < count * failure.length, `${answered} bytes`);
      flood.destroy();
    });

    it('that are refused again and again fill no log', async () => {
      using client = await world.connect();
      const before = world.lines.length;
      for (let n = 0; n < 100; n += 1) {
        const extension = `x${n}@example.org`;
        await client.ask(
          Buffer.concat([Buffer.of(27, 0, 0, 0, extension.length), Buffer.from(extension)]),
        );
        await client.ask(Buffer.of(100 + n));
      }
      assert.equal(await client.sign(Buffer.of(1), Buffer.of(2)), AGENT_FAILURE);
      const told = world.lines.slice(before).map((line) => JSON.parse(line).err.message);
      assert.equal(new Set(told).size, told.length);
      assert.ok(told.length <= 2, told.join());
      assert.ok(
        world.lines.some((line) => line.includes('not a certificate that was offered here')),
      );
    });

    it('that do not come to their end in time close the connection', async () => {
      using slow = await world.connect();
      using idle = await world.connect();
      const drip = setInterval(() => slow.socket.write(Buffer.of(0)), 40);
      slow.socket.write(Buffer.of(0, 3, 0, 0));
      await assert.rejects(slow.answer(), /hung up/);
      clearInterval(drip);
      assert.equal((await idle.identities()).length, 1);
    });

    it('are counted by kind and outcome, and refused connections too', async () => {
      const before = await world.counted('request-identities', 'ok');
      assert.deepEqual(await world.offered(), ['a']);
      assert.equal(await world.counted('request-identities', 'ok'), before + 1);
      const text = await world.metrics();
      assert.match(text, /^writ_agent_connections_refused_total\{listener="ssh_agent"\} [1-9]/m);
      assert.match(text, /^writ_agent_svids_issued_total\{kind="ssh"\} [1-9]/m);
    });
  });

  it('offers nothing where the server issues no SSH certificates', async () => {
    const authority = await FakeAuthority.create(td);
    await using spire = await FakeSpireServer.start({ authority });
    await using other = await AgentUnderTest.create(spire);
    spire.setEntries([sshEntry('a')]);
    await other.start();
    using client = await SshAgentClient.connect(other.sshAgentPath);
    assert.deepEqual(await client.identities(), []);
    assert.equal(spire.calls.at(-1), 'SignSshCertificate');
  });
});
