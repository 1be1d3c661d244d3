/**
 * The gateway's login to a backend, as a session's role or as itself.
 *
 * Source: PostgreSQL 15, "Start-up" and "SASL Authentication". Threat: a backend that lets a role in
 * without its password, or that does not know it; so nothing but SCRAM-SHA-256 is accepted, and the
 * server's proof is checked. Over TLS the proof is bound to the server's certificate where the server
 * offers that. Who has no password has a client certificate, which TLS has shown.
 */
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { ChannelBinding } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../../../../runtime/fault.ts';
import {
  type BackendKey,
  readBackendKeyData,
  readErrorFields,
  readParameterStatus,
} from '../wire/backend-messages.ts';
import { HEADER_BYTES } from '../wire/frames.ts';
import { saslInitialResponse, saslResponse, startupMessage } from '../wire/frontend-messages.ts';
import { BodyReader } from '../wire/message-body.ts';
import { readExactly } from '../wire/read-exactly.ts';
import { serverEndPoint } from './channel-binding.ts';
import type { BackendAddress } from './dial.ts';
import { EarlyDial } from './early-dial.ts';
import {
  type Channel,
  type IterationBounds,
  RANDOM_PASSWORD,
  SCRAM_SHA_256,
  SCRAM_SHA_256_PLUS,
  type ScramExchange,
  scramExchange,
} from './scram.ts';

const LOGIN_TIMEOUT_MS = 10_000;
const LONGEST_LOGIN_MESSAGE = 64 * 1024;
const MOST_LOGIN_MESSAGES = 200;
/** A setting that the client asked for has a value that the server does not take. */
const INVALID_PARAMETER_VALUE = '22023';
/** invalid_password and invalid_authorization_specification. */
const LOGIN_REFUSED = new Set(['28P01', '28000']);
const AUTHENTICATION = { ok: 0, sasl: 10, saslContinue: 11, saslFinal: 12 } as const;

export interface LoginOptions {
  readonly address: BackendAddress;
  /** The connection to `address` that is under way; without it one is made. */
  readonly dialing?: EarlyDial;
  readonly database: string;
  readonly role: string;
  /** Undefined: the client certificate of `address` is all the proof there is. */
  readonly password: string | undefined;
  /** Those of a random password unless given. */
  readonly iterations?: IterationBounds;
  readonly settings: ReadonlyMap<string, string>;
  readonly signal: AbortSignal;
}

/** A backend that waits for the first statement. */
export interface BackendConnection {
  readonly socket: Socket;
  /** As the backend reported them, in its order. */
  readonly parameters: readonly (readonly [string, string])[];
  /** The backend's own; the secret must not reach a client. */
  readonly key: BackendKey;
}

/** An error that the backend answered a login with. */
class BackendRefusal extends Error {
  readonly sqlstate: string;

  constructor(sqlstate: string, message: string) {
    super(`${sqlstate} ${message}`);
    this.sqlstate = sqlstate;
  }
}

/** Whether a login failed because the backend does not take this role with this proof. */
export function isLoginRefused(error: unknown): boolean {
  const cause = error instanceof Fault ? error.cause : undefined;
  return cause instanceof BackendRefusal && LOGIN_REFUSED.has(cause.sqlstate);
}

/**
 * @throws Fault BACKEND_FAILED; INVALID_ARGUMENT if the server does not take a setting's value; the
 * signal's reason when it aborts. No connection is left open.
 */
export async function logIn(options: LoginOptions): Promise<BackendConnection> {
  const limit = new AbortController();
  const abort = () => limit.abort(options.signal.reason);
  options.signal.addEventListener('abort', abort);
  const timer = setTimeout(
    () => limit.abort(new Fault('BACKEND_FAILED', 'the backend did not answer within 10 s')),
    LOGIN_TIMEOUT_MS,
  );
  let socket: Socket | undefined;
  try {
    options.signal.throwIfAborted();
    const dialing = options.dialing ?? new EarlyDial();
    socket = await dialing.take(options.address, limit.signal);
    return await converse(socket, options, limit.signal);
  } catch (error) {
    socket?.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
    options.signal.removeEventListener('abort', abort);
  }
}

async function converse(
  socket: Socket,
  options: LoginOptions,
  signal: AbortSignal,
): Promise<BackendConnection> {
  const { role, password, database, settings } = options;
  socket.write(startupMessage([['user', role], ['database', database], ...settings]));
  if (password === undefined) await authentication(socket, AUTHENTICATION.ok, signal);
  else await authenticate(socket, { ...options, password }, signal);
  const parameters: [string, string][] = [];
  let key: BackendKey | undefined;
  for (let left = MOST_LOGIN_MESSAGES; left > 0; left -= 1) {
    const { type, body } = await nextMessage(socket, signal, settings);
    if (type === 'S') parameters.push(readParameterStatus(body));
    else if (type === 'K') key = readBackendKeyData(body);
    else if (type === 'Z' && key !== undefined) return { socket, parameters, key };
    else if (type !== 'N') throw unexpected(type);
  }
  throw failed(`no ReadyForQuery within ${MOST_LOGIN_MESSAGES} messages`);
}

/** AuthenticationSASL, SASLContinue, SASLFinal, Ok: these four, in this order. */
async function authenticate(
  socket: Socket,
  options: LoginOptions & { readonly password: string },
  signal: AbortSignal,
): Promise<void> {
  const list = await authentication(socket, AUTHENTICATION.sasl, signal);
  const scram = startScram(socket, list.toString('latin1').split('\0'), options);
  socket.write(saslInitialResponse(scram.mechanism, scram.first));
  const serverFirst = await authentication(socket, AUTHENTICATION.saslContinue, signal);
  socket.write(saslResponse(await scram.answer(serverFirst.toString('latin1'))));
  const serverFinal = await authentication(socket, AUTHENTICATION.saslFinal, signal);
  scram.verify(serverFinal.toString('latin1'));
  await authentication(socket, AUTHENTICATION.ok, signal);
}

function startScram(
  socket: Socket,
  offered: readonly string[],
  { address, password, iterations = RANDOM_PASSWORD }: LoginOptions & { readonly password: string },
): ScramExchange {
  const channel = channelOf(socket, offered);
  if (typeof channel === 'string') {
    if (address.tls?.channelBinding === ChannelBinding.REQUIRE) {
      throw failed('the backend offers no channel binding, and its settings require it');
    }
    if (!offered.includes(SCRAM_SHA_256)) throw failed('the backend does not offer SCRAM-SHA-256');
  }
  return scramExchange(password, { channel, iterations });
}

function channelOf(socket: Socket, offered: readonly string[]): Channel {
  if (!(socket instanceof TLSSocket)) return 'none';
  const certificate = socket.getPeerX509Certificate()?.raw;
  const endPoint = certificate === undefined ? undefined : serverEndPoint(certificate);
  if (endPoint === undefined) return 'none';
  return offered.includes(SCRAM_SHA_256_PLUS) ? { endPoint } : 'unused';
}

async function authentication(
  socket: Socket,
  expected: number,
  signal: AbortSignal,
): Promise<Buffer> {
  const { type, body } = await nextMessage(socket, signal);
  if (type !== 'R') throw unexpected(type);
  const kind = body.int32();
  if (kind === expected) return body.bytes(body.left);
  const advice =
    expected === AUTHENTICATION.ok
      ? 'pg_hba.conf must take the client certificate alone (cert), or the login needs a password'
      : 'pg_hba.conf must ask for scram-sha-256';
  throw failed(`authentication request ${kind} in place of ${expected}: ${advice}`);
}

async function nextMessage(
  socket: Socket,
  signal: AbortSignal,
  settings: LoginOptions['settings'] = new Map(),
): Promise<{ type: string; body: BodyReader }> {
  const header = await readExactly(socket, HEADER_BYTES, signal);
  if (header === undefined) throw closed(socket);
  const type = String.fromCharCode(header[0] ?? 0);
  const length = header.readInt32BE(1) - 4;
  if (length < 0 || length > LONGEST_LOGIN_MESSAGE) throw failed(`message of ${length} bytes`);
  const bytes = length === 0 ? Buffer.alloc(0) : await readExactly(socket, length, signal);
  if (bytes === undefined) throw closed(socket);
  const body = new BodyReader(bytes, 0, bytes.length);
  if (type !== 'E') return { type, body };
  const { sqlstate, message } = readErrorFields(body);
  if (sqlstate === INVALID_PARAMETER_VALUE) throw refusedSetting(message, settings);
  throw loginFailed(new BackendRefusal(sqlstate, message));
}

/** Names the setting alone: the server's message holds its value, which can be a secret (threats S9). */
function refusedSetting(message: string, settings: LoginOptions['settings']): Fault {
  const text = message.toLowerCase();
  const name = [...settings.keys()].find((setting) => text.includes(`"${setting}"`));
  const which = name === undefined ? 'a setting' : `setting "${name}"`;
  return new Fault('INVALID_ARGUMENT', `the backend does not take the value of ${which}`);
}

/** Over TLS 1.3 a server refuses a client certificate after the handshake, by an alert. */
function closed({ errored }: Socket): Fault {
  const reason = errored === null ? '' : `: ${errored.message}`;
  return failed(`the backend closed the connection${reason}`);
}

function unexpected(type: string): Fault {
  return failed(`unexpected message ${JSON.stringify(type)}`);
}

function failed(reason: string): Fault {
  return loginFailed(new Error(reason));
}

function loginFailed(cause: Error): Fault {
  return new Fault('BACKEND_FAILED', 'login to the backend failed', { cause });
}
