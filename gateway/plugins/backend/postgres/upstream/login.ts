/**
 * The gateway's login to a backend as a session's role.
 *
 * Source: PostgreSQL 15, "Start-up" and "SASL Authentication". Threat: a backend that lets the role in
 * without its password, or that does not know it; so nothing but SCRAM-SHA-256 is accepted, and the
 * server's proof is checked.
 */
import type { Socket } from 'node:net';
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
import type { BackendAddress } from './dial.ts';
import { EarlyDial } from './early-dial.ts';
import { SCRAM_SHA_256, type ScramExchange, scramExchange } from './scram.ts';

const LOGIN_TIMEOUT_MS = 10_000;
const LONGEST_LOGIN_MESSAGE = 64 * 1024;
const MOST_LOGIN_MESSAGES = 200;
/** A setting that the client asked for has a value that the server does not take. */
const INVALID_PARAMETER_VALUE = '22023';

export interface LoginOptions {
  readonly address: BackendAddress;
  /** The connection to `address` that is under way; without it one is made. */
  readonly dialing?: EarlyDial;
  readonly database: string;
  readonly role: string;
  readonly password: string;
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
    const dialing = options.dialing ?? new EarlyDial(options.address);
    socket = await dialing.take(limit.signal);
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
  { role, password, database, settings }: LoginOptions,
  signal: AbortSignal,
): Promise<BackendConnection> {
  socket.write(startupMessage([['user', role], ['database', database], ...settings]));
  await authenticate(socket, scramExchange(password), signal);
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
  scram: ScramExchange,
  signal: AbortSignal,
): Promise<void> {
  const offered = await authentication(socket, 10, signal);
  if (!offered.toString('latin1').split('\0').includes(SCRAM_SHA_256)) {
    throw failed('the backend does not offer SCRAM-SHA-256');
  }
  socket.write(saslInitialResponse(SCRAM_SHA_256, scram.first));
  const serverFirst = await authentication(socket, 11, signal);
  socket.write(saslResponse(await scram.answer(serverFirst.toString('latin1'))));
  scram.verify((await authentication(socket, 12, signal)).toString('latin1'));
  await authentication(socket, 0, signal);
}

async function authentication(
  socket: Socket,
  expected: number,
  signal: AbortSignal,
): Promise<Buffer> {
  const { type, body } = await nextMessage(socket, signal);
  if (type !== 'R') throw unexpected(type);
  const kind = body.int32();
  if (kind !== expected) {
    throw failed(
      `authentication request ${kind} in place of ${expected}: pg_hba.conf must ask for scram-sha-256`,
    );
  }
  return body.bytes(body.left);
}

async function nextMessage(
  socket: Socket,
  signal: AbortSignal,
  settings: LoginOptions['settings'] = new Map(),
): Promise<{ type: string; body: BodyReader }> {
  const header = await readExactly(socket, HEADER_BYTES, signal);
  if (header === undefined) throw failed('the backend closed the connection');
  const type = String.fromCharCode(header[0] ?? 0);
  const length = header.readInt32BE(1) - 4;
  if (length < 0 || length > LONGEST_LOGIN_MESSAGE) throw failed(`message of ${length} bytes`);
  const bytes = length === 0 ? Buffer.alloc(0) : await readExactly(socket, length, signal);
  if (bytes === undefined) throw failed('the backend closed the connection');
  const body = new BodyReader(bytes, 0, bytes.length);
  if (type !== 'E') return { type, body };
  const { sqlstate, message } = readErrorFields(body);
  if (sqlstate === INVALID_PARAMETER_VALUE) throw refusedSetting(message, settings);
  throw failed(`${sqlstate} ${message}`);
}

/** Names the setting alone: the server's message holds its value, which can be a secret (threats S9). */
function refusedSetting(message: string, settings: LoginOptions['settings']): Fault {
  const text = message.toLowerCase();
  const name = [...settings.keys()].find((setting) => text.includes(`"${setting}"`));
  const which = name === undefined ? 'a setting' : `setting "${name}"`;
  return new Fault('INVALID_ARGUMENT', `the backend does not take the value of ${which}`);
}

function unexpected(type: string): Fault {
  return failed(`unexpected message ${JSON.stringify(type)}`);
}

function failed(reason: string): Fault {
  return new Fault('BACKEND_FAILED', 'login to the backend failed', { cause: new Error(reason) });
}
