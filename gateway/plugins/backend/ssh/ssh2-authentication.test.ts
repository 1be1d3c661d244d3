import assert from 'node:assert/strict';
import { SshWriter } from '../../../../identity/ssh/wire.ts';
import {
  keyRequest,
  openRequest,
  type RawPeer,
  ServedPeer,
  serviceRequest,
} from '../../../../test/fixtures/ssh2-raw.ts';
import { MESSAGE, message } from './ssh2-messages.ts';
import type { ServeSshOptions } from './ssh2-server.ts';

const LIMITS = { rekeyBytes: 2 ** 30, rekeyMs: 3_600_000, pendingBytes: 8 * 2 ** 20 };

describe('serveSsh to a client that is not logged in', () => {
  let served: ServedPeer;

  afterEach(() => served.close());

  function connect(change: Partial<ServeSshOptions> = {}): Promise<RawPeer> {
    served = new ServedPeer(change);
    return served.connect();
  }

  describe('before SSH begins', () => {
    for (const [what, bytes] of [
      ['another protocol', 'GET / HTTP/1.1\r\n\r\n'],
      ['a greeting before the first line', 'hello\r\nSSH-2.0-x\r\n'],
      ['a first line without end', `SSH-2.0-${'x'.repeat(300)}`],
      ['a first line of SSH 1', 'SSH-1.5-x\r\n'],
      ['a packet too long', 'SSH-2.0-x\r\n\x7f\xff\xff\xff'],
    ] as const) {
      it(`ends at ${what}`, async () => {
        served = new ServedPeer();
        served.stream.resume();
        served.stream.write(bytes, 'latin1');
        await served.connection.closed;
        await assert.rejects(served.connection.authenticated);
      });
    }
  });

  describe('at the login', () => {
    for (const [what, payloads] of [
      ['a channel before it', [openRequest('session')]],
      ['a request without the service', [keyRequest({ hasProof: true })]],
      ['a message that only a server sends', [serviceRequest(), message(52).finish()]],
      ['another service', [serviceRequest('ssh-connection')]],
      ['the service twice', [serviceRequest(), serviceRequest()]],
      ['another user on the way', [serviceRequest(), keyRequest(), keyRequest({ user: 'root' })]],
      ['bytes after a request', [serviceRequest(), Buffer.concat([keyRequest(), Buffer.of(0)])]],
      ['a request that ends too early', [serviceRequest(), keyRequest().subarray(0, -1)]],
      [
        'a flag that is neither',
        [serviceRequest(), keyRequest().map((b, i) => (i === 46 ? 2 : b))],
      ],
      [
        'too many requests at once',
        [serviceRequest(), ...Array.from({ length: 20 }, () => keyRequest())],
      ],
    ] as const) {
      it(`ends at ${what}`, async () => {
        const peer = await connect();
        peer.send(...payloads.map((payload) => Buffer.from(payload)));
        await peer.ending();
        await served.connection.closed;
        await assert.rejects(served.connection.authenticated);
        assert.ok(served.attempts.every(({ proof }) => proof === undefined));
      });
    }

    it('ends at new keys before it', async () => {
      served = new ServedPeer();
      const peer = await served.connect({ ...LIMITS, rekeyBytes: 0 });
      peer.transport.authenticated();
      peer.send(serviceRequest());
      assert.match(await peer.ending(), /new keys before the login/);
    });

    for (const number of [MESSAGE.IGNORE, 40, MESSAGE.EXT_INFO]) {
      it(`lets a client go that sends message ${number} on and on`, async () => {
        const peer = await connect();
        peer.send(...Array.from({ length: 110 }, () => Buffer.of(number)));
        await served.connection.closed;
        await assert.rejects(served.connection.authenticated, /too many messages before/);
      });
    }

    it('lets a client go that sends small packets on and on before there are keys', async () => {
      served = new ServedPeer();
      served.stream.resume();
      served.stream.write('SSH-2.0-x\r\n');
      const ignored = Buffer.from('0000000c0a0200000000000000000000', 'hex');
      served.stream.write(Buffer.concat(Array.from({ length: 5000 }, () => ignored)));
      await assert.rejects(served.connection.authenticated, /too many messages before/);
      await served.connection.closed;
    });

    it('answers requests that come at once in their order, one at a time', async () => {
      let running = 0;
      const peer = await connect({
        handlers: {
          authenticate: async ({ publicKey }) => {
            running += 1;
            assert.equal(running, 1);
            const isSlow = Buffer.from(publicKey).toString() === 'slow';
            await new Promise((resolve) => setTimeout(resolve, isSlow ? 50 : 0));
            running -= 1;
            return isSlow ? { accepted: true } : { accepted: false };
          },
          session: () => Promise.reject(new Error('unused')),
          directTcpip: () => Promise.reject(new Error('unused')),
        },
      });
      peer.send(serviceRequest(), keyRequest({ key: 'slow' }), keyRequest({ key: 'fast' }));
      await peer.next(MESSAGE.SERVICE_ACCEPT);
      assert.deepEqual(await peer.numbers(2), [MESSAGE.USERAUTH_PK_OK, MESSAGE.USERAUTH_FAILURE]);
    });

    it('counts other methods as attempts, but not the first question for methods', async () => {
      const peer = await connect();
      const other = (method: string) =>
        message(MESSAGE.USERAUTH_REQUEST)
          .string('tester')
          .string('ssh-connection')
          .string(method)
          .finish();
      const tries = ['none', 'password', 'none', 'hostbased'].map(other);
      peer.send(serviceRequest(), ...tries);
      await peer.next(MESSAGE.SERVICE_ACCEPT);
      const failure = MESSAGE.USERAUTH_FAILURE;
      assert.deepEqual(await peer.numbers(3), [failure, failure, failure]);
      assert.match(await peer.ending(), /too many authentication failures/);
      assert.equal(served.attempts.length, 0);
    });

    it('bounds how often a client may ask whether a key would do', async () => {
      const peer = await connect();
      const questions = Array.from({ length: 4 }, () => keyRequest());
      peer.send(serviceRequest(), ...questions);
      assert.match(await peer.ending(), /too many authentication failures/);
    });

    it('builds what was signed from its own session ID and the very bytes that came', async () => {
      const peer = await connect();
      const request = keyRequest({ hasProof: true });
      peer.send(serviceRequest(), request);
      await peer.next(MESSAGE.USERAUTH_SUCCESS);
      const signature = new SshWriter().string('signature').finish();
      assert.deepEqual(served.attempts, [
        {
          user: 'tester',
          algorithm: 'ssh-ed25519',
          publicKey: Buffer.from('key'),
          proof: {
            signedData: new SshWriter()
              .string(peer.transport.sessionId)
              .raw(request.subarray(0, -signature.length))
              .finish(),
            signature: Buffer.from('signature'),
          },
        },
      ]);
    });

    it('ignores requests after it', async () => {
      served = new ServedPeer();
      const peer = await served.logIn();
      peer.send(keyRequest({ user: 'root', hasProof: true }));
      await peer.session();
      assert.equal(served.attempts.length, 1);
    });
  });
});
