/**
 * The gateway's way to a session's target: a key and a certificate of its own for this one login, and a
 * host key that must be the one that the backend declares.
 */
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { parseSshCertificate } from '../../../../identity/ssh/certificate.ts';
import { encodePublicKey, publicKeyLine } from '../../../../identity/ssh/public-key.ts';
import { verifySshCertificate } from '../../../../identity/ssh/verify-certificate.ts';
import type { SshBackend } from '../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Backoff } from '../../../../runtime/backoff.ts';
import type { Clock } from '../../../../runtime/clock.ts';
import { Fault } from '../../../../runtime/fault.ts';
import { type CallOptions, RpcError } from '../../../../runtime/grpc-client.ts';
import { connectSsh, type SshClientConnection } from './ssh2-client.ts';

/** The server's call, of `GatewayApi`. */
export interface LoginSigner {
  signSshCertificate(
    request: { readonly sessionId: string; readonly publicKey: Uint8Array },
    options: CallOptions,
  ): Promise<{ readonly certificate: Uint8Array }>;
}

export interface TargetOptions {
  readonly sessionId: string;
  /** The backend's name. */
  readonly name: string;
  readonly backend: Pick<SshBackend, 'host' | 'port' | 'hostKeys' | 'logins'>;
  readonly login: string;
  readonly api: () => LoginSigner;
  /** Public keys that sign host certificates. */
  readonly hostAuthorities: readonly Uint8Array[];
  readonly clock: Clock;
  /** Aborts when the session ends. */
  readonly signal: AbortSignal;
}

/** From the first packet to a login. */
const LOGIN_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 60_000;
const MOST_ATTEMPTS = 6;
const CROWDED = { firstMs: 100, maximumMs: 1000 } as const;
/** An identification and a KEXINIT are longer, what a crowded sshd says in their place is shorter. */
const LEAST_KEY_EXCHANGE_BYTES = 256;

/**
 * Logs in to the target.
 * @throws Fault BACKEND_FAILED, PERMISSION_DENIED or UNAVAILABLE, whose message is for the client; the
 * signal's reason when that aborts
 */
export async function connectTarget(options: TargetOptions): Promise<SshClientConnection> {
  const { name, clock, signal } = options;
  const attempt = new AbortController();
  const end = () => attempt.abort(signal.reason);
  signal.addEventListener('abort', end, { once: true });
  if (signal.aborted) end();
  const done = new AbortController();
  const late = () =>
    attempt.abort(new Fault('BACKEND_FAILED', `${name} does not let the gateway in within 10 s`));
  clock.wait(LOGIN_TIMEOUT_MS, done.signal).then(late, () => undefined);
  try {
    return await logIn(options, attempt.signal);
  } catch (error) {
    attempt.signal.throwIfAborted();
    throw error;
  } finally {
    done.abort();
    signal.removeEventListener('abort', end);
  }
}

async function logIn(options: TargetOptions, signal: AbortSignal): Promise<SshClientConnection> {
  const { name, backend, login, clock } = options;
  const account = backend.logins[login];
  if (account === undefined) {
    throw new Fault('PERMISSION_DENIED', `${name} has no login ${login} any more`);
  }
  const { privateKey } = generateKeyPairSync('ed25519');
  const first = dial(options, signal);
  first.catch(() => undefined);
  const certificate = await signedFor(encodePublicKey(privateKey), options, signal).catch(
    (error: unknown) => {
      first.then(destroy, () => undefined);
      throw error;
    },
  );
  const backoff = new Backoff(CROWDED);
  for (let attempt = 1, dialling = first; ; attempt += 1, dialling = dial(options, signal)) {
    const socket = await dialling;
    try {
      return await connectSsh({
        stream: socket,
        user: account,
        privateKey,
        certificate,
        verifyHost: (hostKey) => hostKeyProblem(hostKey, options),
        hostKeyTypes: backend.hostKeys.length === 0 ? 'certificate' : keyTypes(backend.hostKeys),
        signal,
      });
    } catch (error) {
      destroy(socket);
      if (attempt === MOST_ATTEMPTS || !wasTurnedAway(socket)) throw error;
    }
    await clock.wait(backoff.next(), signal);
  }
}

/** Whether the target closed before it took up the key exchange, as sshd does above its MaxStartups. */
function wasTurnedAway(socket: Socket): boolean {
  return socket.bytesRead < LEAST_KEY_EXCHANGE_BYTES;
}

function destroy(socket: Socket): void {
  socket.destroy();
}

/**
 * Why this host key is not the target's; undefined if it is.
 * @param hostKey untrusted: a key's or a certificate's blob
 */
export function hostKeyProblem(
  hostKey: Uint8Array,
  { name, backend, hostAuthorities, clock }: Omit<TargetOptions, 'api' | 'signal'>,
): string | undefined {
  if (backend.hostKeys.length > 0) {
    const isKnown = backend.hostKeys.some((known) => Buffer.from(known).equals(hostKey));
    return isKnown ? undefined : `the host key of ${name} is not the one that its backend declares`;
  }
  try {
    const now = clock.now();
    verifySshCertificate(hostKey, {
      type: 'host',
      authorities: hostAuthorities,
      now,
      principal: name,
    });
    return undefined;
  } catch (error) {
    return `${name} shows no host certificate that is good for it (${Fault.from(error).message})`;
  }
}

async function dial({ name, backend }: TargetOptions, signal: AbortSignal): Promise<Socket> {
  const socket = connect({
    ...{ host: backend.host, port: backend.port, noDelay: true },
    ...{ keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS },
  });
  // `close` tells of every failure too; without a listener an error would end the process.
  socket.on('error', () => undefined);
  try {
    await once(socket, 'connect', { signal });
    return socket;
  } catch (cause) {
    socket.destroy();
    throw new Fault('BACKEND_FAILED', `${name} cannot be reached${codeOf(cause)}`, { cause });
  }
}

/** A certificate for this key, which must be about what was asked. */
async function signedFor(
  publicKey: Buffer,
  { sessionId, name, login, api }: TargetOptions,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const { certificate: blob } = await api()
    .signSshCertificate({ sessionId, publicKey }, { signal })
    .catch(refused);
  const certificate = parseSshCertificate(blob);
  const fits =
    certificate.type === 'user' &&
    certificate.publicKey.equals(publicKey) &&
    certificate.principals.length === 1 &&
    certificate.principals[0] === `${name}/${login}`;
  if (!fits) throw new Error('SignSshCertificate was answered with another certificate');
  return certificate.blob;
}

/** What the client may know of the server's refusal. */
function refused(error: unknown): never {
  if (!(error instanceof RpcError)) throw error;
  const { faultCode } = error;
  if (faultCode === 'PERMISSION_DENIED' || faultCode === 'FAILED_PRECONDITION') {
    throw new Fault(faultCode, error.message, { cause: error });
  }
  const message = 'the gateway got no certificate for the target from its server: try again';
  throw new Fault('UNAVAILABLE', message, { cause: error });
}

function keyTypes(hostKeys: readonly Uint8Array[]): string[] {
  return [...new Set(hostKeys.map((key) => publicKeyLine(key).split(' ')[0] ?? ''))];
}

/** Of the system, e.g. ECONNREFUSED. */
function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string'
    ? ` (${error.code})`
    : '';
}
