import assert from 'node:assert/strict';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { isSshCertificate } from '../../../../identity/ssh/certificate.ts';
import { encodePublicKey } from '../../../../identity/ssh/public-key.ts';
import { Fault } from '../../../../runtime/fault.ts';
import { countListeners } from '../../../../test/fixtures/count-listeners.ts';
import { requireSshd } from '../../../../test/fixtures/ssh-target.ts';
import { eventually, KEY_KINDS, newSshKey } from '../../../../test/fixtures/ssh2-server.ts';
import { run, SshdWorld } from '../../../../test/fixtures/ssh2-sshd.ts';
import { unavailable } from '../../../../test/fixtures/unavailable.ts';
import { connectSsh } from './ssh2-client.ts';

const MEBIBYTE = 2 ** 20;

describe('connectSsh', () => {
  let world: SshdWorld;

  before(async function () {
    requireSshd(this);
    world = await SshdWorld.start();
  });
  after(async () => {
    await world?.[Symbol.asyncDispose]();
  });
  afterEach(() => world.reset());

  describe('verifies the host', () => {
    for (const kind of ['ecdsa-256', 'ecdsa-384', 'ecdsa-521'] as const) {
      it(`by a certificate of an ${kind} key`, async () => {
        const other = await world.startWithHostKey(newSshKey(kind));
        assert.equal((await run(await world.logIn(other), 'echo it')).stdout, 'it\n');
      });
    }

    for (const [kind, type] of [
      ['ecdsa-256', 'ecdsa-sha2-nistp256'],
      ['rsa', 'ssh-rsa'],
    ] as const) {
      it(`by an ${kind} key that it knows`, async () => {
        const hostKey = newSshKey(kind);
        const other = await world.startWithHostKey(hostKey);
        const known = encodePublicKey(hostKey);
        const connection = await world.logIn(other, {
          hostKeyTypes: [type],
          verifyHost: (blob) => (known.equals(blob) ? undefined : 'unknown'),
        });
        assert.equal((await run(connection, 'echo it')).stdout, 'it\n');
      });
    }

    it('by an ed25519 key that it knows', async () => {
      const known = Buffer.from(world.sshd.hostKey);
      const connection = await world.logIn(world.sshd, {
        hostKeyTypes: ['ssh-ed25519'],
        verifyHost: (blob) => (known.equals(blob) ? undefined : 'unknown'),
      });
      assert.equal((await run(connection, 'echo it')).stdout, 'it\n');
    });

    it('and refuses what the verifier refuses, with its reason', async () => {
      let shown: Uint8Array | undefined;
      const verifyHost = (blob: Uint8Array) => {
        shown = blob;
        return 'it is another one';
      };
      await assert.rejects(
        connectSsh(world.options(world.sshd, { verifyHost })),
        unavailable("the target's host key is refused: it is another one"),
      );
      assert.ok(shown !== undefined && isSshCertificate(shown));
    });

    it('and refuses a target that has no certificate', async () => {
      const other = await world.startWith([], false);
      await assert.rejects(
        connectSsh(world.options(other)),
        unavailable('the target has no host certificate'),
      );
    });

    it('and refuses a target that has no key of the types it knows', async () => {
      await assert.rejects(
        connectSsh(world.options(world.sshd, { hostKeyTypes: ['ecdsa-sha2-nistp256'] })),
        unavailable("the target has no host key of the backend's types"),
      );
    });

    it('at each renewal of the keys again', async () => {
      let asked = 0;
      const verifyHost = (blob: Uint8Array) => {
        asked += 1;
        return asked > 2 ? 'enough' : world.hostProblem(blob);
      };
      const limits = { rekeyBytes: MEBIBYTE, rekeyMs: 3_600_000, pendingBytes: 8 * MEBIBYTE };
      const connection = await world.logIn(world.sshd, { verifyHost, limits });
      const { status } = await run(connection, 'head -c 8388608 /dev/zero');
      assert.equal(status, undefined);
      assert.equal(asked, 3);
    });
  });

  describe('logs in', () => {
    for (const kind of KEY_KINDS) {
      it(`with a certificate of an ${kind} key`, async () => {
        const connection = await world.logIn(world.sshd, { privateKey: newSshKey(kind) });
        assert.equal((await run(connection, 'id -un')).stdout, `${world.sshd.account}\n`);
      });
    }

    it('not with a certificate that the target does not take', async () => {
      const certificate = world.certificate(world.key, [], 'target/root');
      await assert.rejects(
        connectSsh(world.options(world.sshd, { certificate })),
        unavailable("the target refuses the gateway's certificate"),
      );
    });

    it('not with a certificate over another key', async () => {
      const certificate = world.certificate(newSshKey('ed25519'), []);
      await assert.rejects(connectSsh(world.options(world.sshd, { certificate })), Fault);
    });

    it('not where nobody answers as SSH does', async () => {
      const answers = [
        'HTTP/1.1 400 Bad Request\r\n\r\n'.repeat(500),
        'SSH-2.0-x\r\n\0\0\0\x01',
        '',
      ];
      for (const answer of answers) {
        const server = await listen((socket) => socket.end(answer));
        const stream = connect(portOf(server), '127.0.0.1');
        await assert.rejects(
          connectSsh(world.options(world.sshd, { stream })),
          unavailable(/the login on the target/),
        );
        server.close();
      }
    });

    it('not after the signal, which is the reason then', async () => {
      const server = await listen(() => undefined);
      const stream = connect(portOf(server), '127.0.0.1');
      const stop = new AbortController();
      const count = countListeners(stop.signal);
      const login = connectSsh(world.options(world.sshd, { stream, signal: stop.signal }));
      const reason = new Fault('UNAVAILABLE', 'the session is over');
      stop.abort(reason);
      await assert.rejects(login, (error) => error === reason);
      await eventually(() => stream.destroyed);
      assert.equal(count(), 0);
      server.close();
    });

    it('not over a stream that is closed already', async () => {
      const stream = connect(world.sshd.port, '127.0.0.1');
      stream.destroy();
      await assert.rejects(connectSsh(world.options(world.sshd, { stream })), Fault);
    });
  });
});

async function listen(serve: (socket: Socket) => void): Promise<Server> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.resume();
    serve(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not listening');
  return address.port;
}
