import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { parseSshCertificate } from '../../../../identity/ssh/certificate.ts';
import { opensshPrivateKey } from '../../../../identity/ssh/private-key.ts';
import { encodePublicKey, publicKeyLine } from '../../../../identity/ssh/public-key.ts';
import { signatureAlgorithm } from '../../../../identity/ssh/signature.ts';
import { Fault } from '../../../../runtime/fault.ts';
import { hasProgram, skipWithout } from '../../../../test/fixtures/programs.ts';
import {
  eventually,
  KEY_KINDS,
  newSshKey,
  type OpenSshClient,
  Ssh2Server,
  settled,
} from '../../../../test/fixtures/ssh2-server.ts';
import { serveSsh } from './ssh2-server.ts';

const MEBIBYTE = 2 ** 20;

describe('serveSsh', () => {
  let server: Ssh2Server;
  let client: OpenSshClient;

  before(function () {
    if (!hasProgram('ssh')) skipWithout(this, 'ssh');
  });

  async function set(
    options: Parameters<typeof Ssh2Server.start>[0] = {},
    clientOptions: Parameters<Ssh2Server['client']>[0] = {},
  ): Promise<void> {
    server = await Ssh2Server.start(options);
    client = await server.client(clientOptions);
  }

  afterEach(async () => {
    await client[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });

  describe('proves itself', () => {
    for (const kind of KEY_KINDS) {
      it(`by a certificate of an ${kind} key`, async () => {
        server = await Ssh2Server.start({}, newSshKey(kind));
        client = await server.client();
        const { status, stderr } = await client.run(['exit', '0'], { options: ['-v'] });
        assert.equal(status, 0, stderr);
        assert.match(stderr, /Host 'localhost' is known and matches the \w+-CERT host certificate/);
      });

      it(`by an ${kind} key alone to a client that knows it`, async () => {
        const key = newSshKey(kind);
        server = await Ssh2Server.start({}, key);
        client = await server.client({ known: `localhost ${publicKeyLine(encodePublicKey(key))}` });
        const { status, stderr } = await client.run(['exit', '0'], { options: ['-v'] });
        assert.equal(status, 0, stderr);
        assert.match(stderr, /Host 'localhost' is known and matches the (?!\w+-CERT)\w+ host key/);
      });
    }

    it('by no certificate that another authority has signed', async () => {
      server = await Ssh2Server.start();
      const other = publicKeyLine(encodePublicKey(server.authorities.user));
      client = await server.client({ known: `@cert-authority * ${other}` });
      const { status, stderr } = await client.run(['exit', '0']);
      assert.equal(status, 255);
      assert.match(stderr, /Host key verification failed/);
    });
  });

  describe('authenticates', () => {
    for (const kind of KEY_KINDS) {
      it(`a client with a certificate of an ${kind} key`, async () => {
        await set({}, { key: newSshKey(kind) });
        const { status, stderr } = await client.run(['exit', '7']);
        assert.equal(status, 7, stderr);
        const [proved] = server.attempts.filter(({ proof }) => proof !== undefined);
        assert.ok(proved?.proof !== undefined);
        const { keyType } = parseSshCertificate(proved.publicKey);
        const plain = keyType === 'ssh-rsa' ? 'rsa-sha2-512' : keyType;
        assert.equal(proved.algorithm, `${plain}-cert-v01@openssh.com`);
        assert.equal(signatureAlgorithm(proved.proof.signature), plain);
      });
    }

    it('nobody whose key is not accepted, and says why to who is told', async () => {
      await set({ authenticate: async () => ({ accepted: false, banner: 'writ: no grant' }) });
      const { status, stderr } = await client.run(['exit', '0']);
      assert.equal(status, 255);
      assert.match(stderr, /writ: no grant\r?\n/);
      assert.match(stderr, /Permission denied \(publickey\)/);
      assert.deepEqual(server.asked, []);
    });

    it('nobody by being asked whether a key would do', async () => {
      await set({ authenticate: async ({ proof }) => ({ accepted: proof === undefined }) });
      const { status, stderr } = await client.run(['exit', '0']);
      assert.equal(status, 255);
      assert.match(stderr, /Permission denied/);
    });

    it('nobody when the check itself fails', async () => {
      await set({ authenticate: () => Promise.reject(new Error('a secret')) });
      const { status, stderr } = await client.run(['exit', '0']);
      assert.equal(status, 255);
      assert.match(stderr, /internal error/);
      assert.doesNotMatch(stderr, /secret/);
      await assert.rejects(server.connections[0]?.authenticated ?? Promise.resolve(), Fault);
    });

    it('a client whose first key is refused and second accepted', async () => {
      await set();
      const other = newSshKey('ed25519');
      const path = join(client.directory, 'other');
      await writeFile(path, opensshPrivateKey(other), { mode: 0o600 });
      const { status, stderr } = await client.run(['exit', '3'], { options: ['-i', path] });
      assert.equal(status, 3, stderr);
    });

    it('nobody after too many attempts', async () => {
      await set({ maximumAttempts: 2 }, { settings: ['PubkeyAuthentication yes'] });
      const options: string[] = [];
      for (const name of ['a', 'b', 'c']) {
        const path = join(client.directory, name);
        await writeFile(path, opensshPrivateKey(newSshKey('ed25519')), { mode: 0o600 });
        options.push('-i', path);
      }
      const { status, stderr } = await client.run(['exit', '0'], {
        options: ['-F', 'none', '-p', String(server.port), ...options, ...anyHost()],
      });
      assert.equal(status, 255);
      assert.match(stderr, /too many authentication failures/i);
      assert.equal(server.attempts.length, 2);
    });

    it('by the algorithms that it lists, each by itself and none of SHA-1', async () => {
      await set();
      const { stderr } = await client.run(['exit', '0'], { options: ['-vvv'] });
      const [, list] = /server-sig-algs=<([^>]*)>/.exec(stderr) ?? [];
      assert.deepEqual(list?.split(','), [
        'ssh-ed25519',
        'ecdsa-sha2-nistp256',
        'ecdsa-sha2-nistp384',
        'ecdsa-sha2-nistp521',
        'rsa-sha2-512',
        'rsa-sha2-256',
      ]);
      assert.equal(stderr.match(/kex_input_ext_info: server-sig-algs/g)?.length, 1);
    });
  });

  describe('refuses', () => {
    it('to forward a port of its own', async () => {
      await set();
      const { status, stderr } = await client.run(['exit', '0'], {
        options: ['-R', '0:127.0.0.1:9', '-o', 'ExitOnForwardFailure=yes'],
      });
      assert.equal(status, 255);
      assert.match(stderr, /remote port forwarding failed/);
    });

    it('a connection through it that the handlers refuse', async () => {
      await set();
      const { status, stderr } = await client.run([], { options: ['-W', 'inner:22'] });
      assert.equal(status, 255);
      assert.match(stderr, /open failed: administratively prohibited: not from here/);
    });
  });

  describe('serves a connection within a connection', () => {
    it('to a client that jumps through it', async () => {
      const destinations: unknown[] = [];
      server = await Ssh2Server.start({
        directTcpip: async (destination) => {
          destinations.push(destination);
          return (stream) => void server.connections.push(serveSsh({ ...server.options, stream }));
        },
      });
      client = await server.client();
      const sample = randomBytes(4 * MEBIBYTE);
      const options = ['-J', 'hop', '-o', 'HostName=inner', '-o', 'HostKeyAlias=inner'];
      await writeFile(
        join(client.directory, 'config'),
        await jumpConfig(client.directory, server.port),
      );
      const { status, stdout, stderr } = await client.run(['digest'], { input: sample, options });
      assert.equal(status, 0, stderr);
      assert.equal(stdout, createHash('sha256').update(sample).digest('hex'));
      assert.deepEqual(destinations, [{ host: 'inner', port: 22 }]);
      await Promise.all(server.connections.map(({ closed }) => closed));
    });
  });

  describe('ends', () => {
    it('a connection with the reason, within the promised second', async () => {
      await set();
      const child = client.start(['flood']);
      await once(child.stdout ?? child, 'data');
      let stderr = '';
      child.stderr?.on('data', (data: Buffer) => {
        stderr += data.toString();
      });
      child.stdout?.resume();
      const gone = once(child, 'close');
      const [connection] = server.connections;
      const began = performance.now();
      connection?.end('writ: the grant has ended');
      await connection?.closed;
      assert.ok(performance.now() - began < 1000);
      await gone;
      assert.match(stderr, /writ: the grant has ended/);
      assert.ok(server.asked.includes('closed'));
    });

    it('a connection whose client does not read, within the promised second', async () => {
      await set();
      const child = client.start(['flood']);
      await once(child.stdout ?? child, 'data');
      child.kill('SIGSTOP');
      await settled(() => server.flooded);
      const began = performance.now();
      const [connection] = server.connections;
      connection?.end('writ: over');
      await connection?.closed;
      assert.ok(performance.now() - began < 1000);
      child.kill('SIGKILL');
    });

    it('nothing twice', async () => {
      await set();
      assert.equal((await client.run(['exit', '0'])).status, 0);
      const [connection] = server.connections;
      await connection?.closed;
      connection?.end('again');
      connection?.destroy();
      assert.equal(server.asked.filter((text) => text === 'closed').length, 1);
    });
  });

  it('takes a first line that comes byte by byte', async () => {
    await set();
    const socket = connect(server.port, '127.0.0.1');
    let received = Buffer.alloc(0);
    socket.on('data', (data: Buffer) => {
      received = Buffer.concat([received, data]);
    });
    for (const byte of Buffer.from('SSH-2.0-slow\r\n')) {
      socket.write(Buffer.of(byte));
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await eventually(() => received.includes('curve25519-sha256'));
    assert.match(received.toString('latin1'), /^SSH-2\.0-OpenSSH_Writ\r\n/);
    socket.destroy();
  });
});

function anyHost(): string[] {
  return ['-l', 'tester', '-o', 'HostName=127.0.0.1', '-o', 'StrictHostKeyChecking=no'].concat([
    ...['-o', 'UserKnownHostsFile=/dev/null', '-o', 'IdentitiesOnly=yes', '-o', 'BatchMode=yes'],
  ]);
}

/** `hop` is the server; `inner` is reached by way of it. */
async function jumpConfig(directory: string, port: number): Promise<string> {
  return [
    'Host hop',
    ...['  HostName 127.0.0.1', `  Port ${port}`, '  HostKeyAlias localhost'],
    'Host *',
    ...['  User tester', `  IdentityFile ${directory}/id`, '  IdentitiesOnly yes'],
    ...['  IdentityAgent none', `  UserKnownHostsFile ${directory}/known_hosts`],
    ...['  GlobalKnownHostsFile /dev/null', '  StrictHostKeyChecking yes', '  BatchMode yes', ''],
  ].join('\n');
}
