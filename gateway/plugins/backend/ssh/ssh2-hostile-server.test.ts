import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { encodePublicKey } from '../../../../identity/ssh/public-key.ts';
import { signSsh } from '../../../../identity/ssh/signature.ts';
import { SshReader } from '../../../../identity/ssh/wire.ts';
import { systemClock } from '../../../../runtime/clock.ts';
import { Fault } from '../../../../runtime/fault.ts';
import { SshAuthorities } from '../../../../test/fakes/ssh-authorities.ts';
import {
  channelData,
  channelRequest,
  globalRequest,
  openRequest,
  RawPeer,
  type RoleMaker,
} from '../../../../test/fixtures/ssh2-raw.ts';
import { eventually } from '../../../../test/fixtures/ssh2-server.ts';
import { unavailable } from '../../../../test/fixtures/unavailable.ts';
import { connectSsh, type SshClientConnection, type SshClientOptions } from './ssh2-client.ts';
import { algorithmOffer } from './ssh2-host-keys.ts';
import type { HostSigner } from './ssh2-internals.ts';
import { disconnectMessage, MESSAGE, message } from './ssh2-messages.ts';
import { streamPair } from './ssh2-stream-pair.ts';

const CERTIFICATE = 'ssh-ed25519-cert-v01@openssh.com';
const WINDOW = 2 * 2 ** 20;
const EXEC = { kind: 'exec', command: 'x', env: new Map<string, string>() } as const;

describe('connectSsh to a server that breaks the protocol', () => {
  const authorities = new SshAuthorities(systemClock);
  const hostKey = generateKeyPairSync('ed25519').privateKey;
  const key = generateKeyPairSync('ed25519').privateKey;
  const streams: Duplex[] = [];
  let login: Promise<SshClientConnection>;

  afterEach(() => {
    for (const stream of streams.splice(0)) stream.destroy();
  });

  /** @param role the server's; by default one whose host key is good */
  async function connect(
    role: RoleMaker = plainHost(hostKey, hostKey),
    change: Partial<SshClientOptions> = {},
  ): Promise<RawPeer> {
    const [near, far] = streamPair();
    streams.push(near, far);
    login = connectSsh({
      stream: near,
      user: 'deploy',
      privateKey: key,
      certificate: authorities.issueGateway(key, { keyId: 'k', principals: ['p'] }),
      verifyHost: () => undefined,
      hostKeyTypes: ['ssh-ed25519'],
      signal: new AbortController().signal,
      ...change,
    });
    login.catch(() => undefined);
    return RawPeer.connect(far, { role });
  }

  async function loggedIn(): Promise<[RawPeer, SshClientConnection]> {
    const peer = await connect();
    await peer.next(MESSAGE.SERVICE_REQUEST);
    peer.send(message(MESSAGE.SERVICE_ACCEPT).string('ssh-userauth').finish());
    await peer.next(MESSAGE.USERAUTH_REQUEST);
    peer.send(message(MESSAGE.USERAUTH_SUCCESS).finish());
    peer.transport.authenticated();
    return [peer, await login];
  }

  describe('in its proof', () => {
    it('does not log in where another key signed than the one that is shown', async () => {
      const other = generateKeyPairSync('ed25519').privateKey;
      await connect(plainHost(hostKey, other));
      await assert.rejects(login, unavailable(/signature verification failed/));
    });

    it("does not log in where another key signed than a good certificate's", async () => {
      const other = generateKeyPairSync('ed25519').privateKey;
      const certificate = authorities.issueHost(['target'], hostKey);
      await connect(certifiedHost(certificate, other), { hostKeyTypes: 'certificate' });
      await assert.rejects(login, unavailable(/signature verification failed/));
      const good = certifiedHost(certificate, hostKey);
      const peer = await connect(good, { hostKeyTypes: 'certificate' });
      await peer.next(MESSAGE.SERVICE_REQUEST);
    });

    it('does not log in where the certificate does not parse', async () => {
      const certificate = authorities.issueHost(['target'], hostKey);
      certificate[certificate.length - 1] = (certificate.at(-1) ?? 0) ^ 1;
      await connect(certifiedHost(certificate, hostKey), { hostKeyTypes: 'certificate' });
      await assert.rejects(login, unavailable(/the login on the target failed/));
    });

    it('does not log in where a plain key is shown for a certificate', async () => {
      const role = hostWith(CERTIFICATE, encodePublicKey(hostKey), hostKey);
      await connect(role, { hostKeyTypes: 'certificate' });
      await assert.rejects(login, unavailable(/does not match negotiated type/));
    });

    it('does not log in where the verifier throws', async () => {
      const verifyHost = () => {
        throw new Error('a secret');
      };
      await connect(undefined, { verifyHost });
      await assert.rejects(login, (error) => {
        assert.ok(error instanceof Fault);
        assert.doesNotMatch(error.message, /secret/);
        return true;
      });
    });
  });

  describe('at the login', () => {
    for (const [what, payloads] of [
      ['success before anything was asked', [message(MESSAGE.USERAUTH_SUCCESS).finish()]],
      ['a channel', [openRequest('session')]],
      ['a question of a keyboard', [accept(), message(60).string('').string('').finish()]],
      ['the service twice', [accept(), accept()]],
      ['a request to log in', [accept(), message(MESSAGE.USERAUTH_REQUEST).finish()]],
    ] as const) {
      it(`ends at ${what}`, async () => {
        const peer = await connect();
        await peer.next(MESSAGE.SERVICE_REQUEST);
        peer.send(...payloads);
        await assert.rejects(login, Fault);
        await peer.ending();
      });
    }

    it('says what the server says as it ends the connection, on one line', async () => {
      const peer = await connect();
      peer.send(disconnectMessage(2, 'go\u001b[2J\naway'));
      await assert.rejects(login, unavailable(/: the peer ended the connection: go \[2J away$/));
    });

    it('says so where the certificate is not enough', async () => {
      const peer = await connect();
      await peer.next(MESSAGE.SERVICE_REQUEST);
      peer.send(accept());
      await peer.next(MESSAGE.USERAUTH_REQUEST);
      peer.send(message(MESSAGE.USERAUTH_FAILURE).string('password').boolean(true).finish());
      await assert.rejects(login, unavailable('the target wants more than a certificate'));
    });

    it('sends one request, which names the certificate and is signed by its key', async () => {
      const peer = await connect();
      await peer.next(MESSAGE.SERVICE_REQUEST);
      peer.send(message(MESSAGE.USERAUTH_BANNER).string('hello').string('').finish(), accept());
      const request = await peer.next(MESSAGE.USERAUTH_REQUEST);
      const texts = [request.text(), request.text(), request.text()];
      assert.deepEqual(texts, ['deploy', 'ssh-connection', 'publickey']);
      assert.equal(request.boolean(), true);
      assert.equal(request.text(), CERTIFICATE);
      assert.equal(new SshReader(request.string()).text(), CERTIFICATE);
      assert.equal(new SshReader(request.string()).text(), 'ssh-ed25519');
      request.end();
    });
  });

  describe('after the login', () => {
    it('refuses channels and global requests of the server', async () => {
      const [peer] = await loggedIn();
      for (const type of ['forwarded-tcpip', 'x11', 'auth-agent@openssh.com', 'session']) {
        peer.send(openRequest(type));
        await peer.next(MESSAGE.CHANNEL_OPEN_FAILURE);
      }
      peer.send(globalRequest('hostkeys-00@openssh.com', Buffer.from('anything')));
      await peer.next(MESSAGE.REQUEST_FAILURE);
    });

    it('says why a channel does not open', async () => {
      const [peer, connection] = await loggedIn();
      const opening = connection.open(EXEC);
      const request = await peer.next(MESSAGE.CHANNEL_OPEN);
      assert.equal(request.text(), 'session');
      const failure = message(MESSAGE.CHANNEL_OPEN_FAILURE).u32(request.u32()).u32(1);
      peer.send(failure.string('no\nroom').string('').finish());
      await assert.rejects(opening, unavailable('the peer opens no channel: no room'));
    });

    it('opens nothing where the server goes amid it', async () => {
      const [peer, connection] = await loggedIn();
      const opening = connection.open(EXEC);
      await peer.next(MESSAGE.CHANNEL_OPEN);
      peer.transport.destroy(new Fault('UNAVAILABLE', 'gone'));
      await assert.rejects(opening, unavailable('the connection is closed'));
      await connection.closed;
    });

    it('takes the first exit status, and none that is malformed', async () => {
      const [peer, connection] = await loggedIn();
      const channel = await opened(peer, connection);
      const status = (code: number) => message(0).u32(code).finish().subarray(1);
      peer.send(channelRequest(channel.id, 'exit-status', status(3), false));
      peer.send(channelRequest(channel.id, 'exit-status', status(4), false));
      peer.send(message(MESSAGE.CHANNEL_CLOSE).u32(channel.id).finish());
      assert.deepEqual(await channel.exit, { code: 3 });
      const other = await opened(peer, connection);
      peer.send(channelRequest(other.id, 'exit-status', Buffer.of(1), false));
      assert.equal(await other.exit, undefined);
      await peer.ending();
    });

    it('ends when more comes than the window that a stopped reader leaves', async () => {
      const [peer, connection] = await loggedIn();
      const { id } = await opened(peer, connection);
      const piece = Buffer.alloc(32_768);
      for (let sent = 0; sent < WINDOW; sent += piece.length) peer.send(channelData(id, piece));
      peer.send(channelData(id, Buffer.of(1)));
      assert.match(await peer.ending(), /beyond a channel's window/);
      await connection.closed;
    });

    it('goes on when its window is all used and its reader reads again', async () => {
      const [peer, connection] = await loggedIn();
      const { id, output } = await opened(peer, connection);
      const piece = Buffer.alloc(32_768);
      let sent = 0;
      for (; sent < WINDOW; sent += piece.length) peer.send(channelData(id, piece));
      let read = 0;
      output.on('data', (data: Buffer) => {
        read += data.length;
      });
      await eventually(() => read === sent);
      const adjusted = await peer.next(MESSAGE.CHANNEL_WINDOW_ADJUST);
      adjusted.u32();
      assert.ok(adjusted.u32() > 0);
      peer.send(channelData(id, piece));
      await eventually(() => read === sent + piece.length);
    });

    it("asks nothing of OpenSSH's own of a server that is another, and takes no more all the same", async () => {
      const [peer, connection] = await loggedIn();
      const channel = await opened(peer, connection);
      peer.send(channelData(channel.id, Buffer.from('before')));
      await eventually(() => channel.output.readableLength > 0);
      assert.equal(channel.refuseOutput(), false);
      channel.output.on('data', () => assert.fail('it takes more'));
      peer.send(channelData(channel.id, Buffer.from('after')));
      channel.signal('HUP');
      const request = await peer.next(MESSAGE.CHANNEL_REQUEST);
      request.u32();
      assert.equal(request.text(), 'signal');
      peer.send(message(MESSAGE.CHANNEL_CLOSE).u32(channel.id).finish());
      assert.equal(await channel.exit, undefined);
    });

    it('lets the server send on to a reader that has given up', async () => {
      const [peer, connection] = await loggedIn();
      const { id, output } = await opened(peer, connection);
      output.destroy();
      const piece = Buffer.alloc(32_768);
      let window = WINDOW;
      for (let sent = 0; sent < 3 * WINDOW; sent += piece.length) {
        if (window < piece.length) {
          const adjusted = await peer.next(MESSAGE.CHANNEL_WINDOW_ADJUST);
          adjusted.u32();
          window += adjusted.u32();
        }
        window -= piece.length;
        peer.send(channelData(id, piece));
      }
      assert.equal(peer.over, undefined);
    });
  });

  async function opened(peer: RawPeer, connection: SshClientConnection) {
    const opening = connection.open(EXEC);
    const request = await peer.next(MESSAGE.CHANNEL_OPEN);
    request.text();
    const id = request.u32();
    const confirmed = message(MESSAGE.CHANNEL_OPEN_CONFIRMATION).u32(id).u32(0);
    peer.send(confirmed.u32(WINDOW).u32(32_768).finish());
    await peer.next(MESSAGE.CHANNEL_REQUEST);
    peer.send(message(MESSAGE.CHANNEL_SUCCESS).u32(id).finish());
    return { id, ...(await opening) };
  }
});

function accept(): Buffer {
  return message(MESSAGE.SERVICE_ACCEPT).string('ssh-userauth').finish();
}

/** @param signing the key that signs, where it is another one than is shown */
function plainHost(shown: KeyObject, signing: KeyObject): RoleMaker {
  return hostWith('ssh-ed25519', encodePublicKey(shown), signing);
}

function certifiedHost(certificate: Buffer, signing: KeyObject): RoleMaker {
  return hostWith(CERTIFICATE, certificate, signing);
}

function hostWith(algorithm: string, blob: Buffer, signing: KeyObject): RoleMaker {
  return (protocol) => {
    const signer: HostSigner = {
      type: new SshReader(blob).text(),
      getPublicSSH: () => blob,
      sign: (data) => {
        const exchange = protocol()._kex;
        if (exchange !== undefined) exchange.negotiated.serverHostKey = 'ssh-ed25519';
        const signature = new SshReader(signSsh(signing, data));
        signature.text();
        return signature.string();
      },
    };
    return {
      ...{ server: true, hostKeys: { [algorithm]: signer } },
      offer: algorithmOffer([algorithm]),
    };
  };
}
