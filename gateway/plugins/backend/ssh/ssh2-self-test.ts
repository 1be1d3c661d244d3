import { generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { signSshCertificate } from '../../../../identity/ssh/certificate.ts';
import { encodePublicKey } from '../../../../identity/ssh/public-key.ts';
import { parseUserAuthData, verifyUserAuth } from '../../../../identity/ssh/user-auth.ts';
import { verifySshCertificate } from '../../../../identity/ssh/verify-certificate.ts';
import { systemClock } from '../../../../runtime/clock.ts';
import { Fault } from '../../../../runtime/fault.ts';
import { connectSsh, type SshClientConnection } from './ssh2-client.ts';
import { type PublicKeyAttempt, type ServerHandlers, serveSsh } from './ssh2-server.ts';
import type { SessionHandlers } from './ssh2-server-session.ts';
import { streamPair } from './ssh2-stream-pair.ts';

const HOST = 'self-test';
const USER = 'tester';
const TIMEOUT_MS = 10_000;
/** Enough for keys to be renewed on the way. */
const SAMPLE_BYTES = 256 * 1024;
const LIMITS = { rekeyBytes: 64 * 1024, rekeyMs: 3_600_000, pendingBytes: 8 * 2 ** 20 };

/**
 * Logins within the process: with certificates that are checked on both sides, data that arrives as it
 * was sent while keys are renewed, and a host and a user that must be refused. A gateway whose ssh2
 * does not pass serves nobody.
 * @throws Fault STATE_UNUSABLE
 */
export async function selfTest(): Promise<void> {
  try {
    const world = new TestWorld();
    const sample = randomBytes(SAMPLE_BYTES);
    const echoed = await world.login({ host: HOST, user: USER, sample });
    if (!sample.equals(echoed)) throw new Error('data arrives changed');
    if (world.keyExchanges < 2) throw new Error('keys are not renewed');
    await expectRefusal(
      world.login({ host: 'another', user: USER, sample }),
      /host key is refused/,
    );
    await expectRefusal(world.login({ host: HOST, user: 'nobody', sample }), /refuses the gateway/);
  } catch (error) {
    throw new Fault('STATE_UNUSABLE', 'the SSH self-test failed', { cause: error });
  }
}

async function expectRefusal(login: Promise<unknown>, text: RegExp): Promise<void> {
  const outcome = await login.catch((error: unknown) => error);
  if (outcome instanceof Fault && text.test(outcome.message)) return;
  throw new Error('a login that must be refused is not', { cause: outcome });
}

interface TestLogin {
  /** Whom the client expects. */
  readonly host: string;
  readonly user: string;
  readonly sample: Buffer;
}

class TestWorld {
  readonly #hostAuthority = newKey();
  readonly #userAuthority = newKey();
  readonly #hostKey = newKey();
  readonly #userKey = newKey();
  /** In which the client looked at the host's key. */
  keyExchanges = 0;

  async login({ host, user, sample }: TestLogin): Promise<Buffer> {
    const [near, far] = streamPair();
    const server = serveSsh({
      stream: far,
      hostKeys: [{ privateKey: this.#hostKey, certificate: this.#hostCertificate() }],
      maximumAttempts: 2,
      maximumChannels: 1,
      handlers: this.#handlers(),
      limits: LIMITS,
    });
    try {
      const client = await connectSsh({
        stream: near,
        user,
        privateKey: this.#userKey,
        certificate: this.#userCertificate(),
        hostKeyTypes: 'certificate',
        verifyHost: (blob) => this.#refuseHost(blob, host),
        signal: AbortSignal.timeout(TIMEOUT_MS),
        limits: LIMITS,
      });
      return await echo(client, sample);
    } finally {
      server.destroy();
      near.destroy();
    }
  }

  #handlers(): ServerHandlers {
    return {
      authenticate: async (attempt) =>
        this.#isProved(attempt) ? { accepted: true } : { accepted: false },
      session: async () => ECHO,
      directTcpip: () => Promise.reject(new Fault('PERMISSION_DENIED', 'not here')),
    };
  }

  #isProved({ user, publicKey, proof }: PublicKeyAttempt): boolean {
    if (proof === undefined) return false;
    const { signedData, signature } = proof;
    const authorities = [encodePublicKey(this.#userAuthority)];
    const rule = { type: 'user', authorities, now: systemClock.now(), principal: user } as const;
    try {
      const certificate = verifySshCertificate(publicKey, rule);
      return verifyUserAuth(certificate, parseUserAuthData(signedData), signedData, signature);
    } catch {
      return false;
    }
  }

  #refuseHost(blob: Uint8Array, principal: string): string | undefined {
    this.keyExchanges += 1;
    const authorities = [encodePublicKey(this.#hostAuthority)];
    try {
      verifySshCertificate(blob, { type: 'host', authorities, now: systemClock.now(), principal });
      return undefined;
    } catch {
      return 'not the one expected';
    }
  }

  #hostCertificate(): Buffer {
    return certify({ type: 'host', name: HOST, key: this.#hostKey }, this.#hostAuthority);
  }

  #userCertificate(): Buffer {
    return certify({ type: 'user', name: USER, key: this.#userKey }, this.#userAuthority);
  }
}

const ECHO: SessionHandlers = {
  pty: () => false,
  env: () => false,
  start: (_, { input, output, exit }) => {
    input.pipe(output, { end: false });
    input.once('end', () => exit({ code: 0 }));
    return true;
  },
  resized: () => undefined,
  signalled: () => undefined,
  outputRefused: () => undefined,
  closed: () => undefined,
};

async function echo(client: SshClientConnection, sample: Buffer): Promise<Buffer> {
  const channel = await client.open({ kind: 'exec', command: 'echo', env: new Map() });
  channel.input.end(sample);
  const chunks: Buffer[] = [];
  for await (const chunk of channel.output) chunks.push(Buffer.from(chunk));
  const status = await channel.exit;
  if (status === undefined || !('code' in status) || status.code !== 0) {
    throw new Error('the exit status does not arrive');
  }
  return Buffer.concat(chunks);
}

function newKey(): KeyObject {
  return generateKeyPairSync('ed25519').privateKey;
}

interface Subject {
  readonly type: 'user' | 'host';
  readonly name: string;
  readonly key: KeyObject;
}

function certify({ type, name, key }: Subject, authority: KeyObject): Buffer {
  const now = systemClock.now().getTime();
  const init = {
    type,
    publicKey: encodePublicKey(key),
    serial: 1n,
    keyId: name,
    principals: [name],
    validAfter: new Date(now - 60_000),
    validBefore: new Date(now + 60_000),
  };
  return signSshCertificate(init, authority);
}
