/**
 * How a client's connection begins: what comes before TLS, and the first packet inside it.
 *
 * Source: PostgreSQL 15 and 18, "Start-up", "SSL Session Encryption", "GSSAPI Session Encryption".
 * Threats: bytes stuffed behind an SSLRequest (the class of CVE-2021-23214), a second SSLRequest, a
 * packet whose length lies, keys given twice, settings that change who the session is or how the
 * server reads a statement (P11).
 */
import { isUtf8 } from 'node:buffer';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { Fault } from '../../../../../runtime/fault.ts';
import { fatal, type PostgresError } from '../wire/errors.ts';
import {
  CANCEL_REQUEST,
  GSSENC_REQUEST,
  PROTOCOL_3_0,
  SSL_REQUEST,
} from '../wire/frontend-messages.ts';
import { readExactly } from '../wire/read-exactly.ts';
import { endClient } from './end-client.ts';
import {
  PINNED_SETTINGS,
  parseOptions,
  REASON_SETTING,
  refusePinned,
  settingRefused,
} from './settings.ts';

/** As PostgreSQL's own MAX_STARTUP_PACKET_LENGTH. */
const LONGEST_STARTUP_PACKET = 10_000;
const TLS_HANDSHAKE = 0x16;

/** What a client asks for; all of it untrusted. */
export interface Startup {
  /** May name the grant; proves nothing. */
  readonly user: string;
  /** Names the backend; empty if the client gave none. */
  readonly database: string;
  /** Settings for the backend, by name in lower case; none is pinned, all else is untrusted. */
  readonly settings: ReadonlyMap<string, string>;
  /** What the record keeps of the client's words. */
  readonly client: Readonly<Record<string, string>>;
  /** Whether the client must be told that it gets protocol 3.0, and without which options. */
  readonly negotiate: { readonly unknownOptions: readonly string[] } | undefined;
}

export interface CancelPacket {
  readonly processId: number;
  readonly secret: Buffer;
}

/** The first packet of a connection, its length field taken off and checked. */
export interface FirstPacket {
  readonly code: number;
  readonly body: Buffer;
}

export interface PrefaceOptions {
  readonly signal: AbortSignal;
  cancel(packet: CancelPacket): Promise<void>;
}

/**
 * Reads up to the ClientHello and takes no byte of it.
 * @returns `done` when a CancelRequest has been dealt with and the connection closed
 * @throws Fault PROTOCOL_VIOLATION for anything else; a client that speaks without TLS is told so first
 */
export async function readPreface(
  socket: Socket,
  { signal, cancel }: PrefaceOptions,
): Promise<'tls' | 'done'> {
  if (await startsTls(socket, signal)) return 'tls';
  let packet = await readFirstPacket(socket, signal);
  if (packet?.code === GSSENC_REQUEST && isBare(packet, socket)) {
    socket.write('N');
    packet = await readFirstPacket(socket, signal);
  }
  if (packet === undefined) throw new Fault('PROTOCOL_VIOLATION', 'no PostgreSQL start-up packet');
  if (packet.code === SSL_REQUEST && isBare(packet, socket)) {
    socket.write('S');
    return 'tls';
  }
  if (packet.code === CANCEL_REQUEST) {
    const request = readCancel(packet);
    if (request !== undefined) await cancel(request);
    socket.destroy();
    return 'done';
  }
  if (packet.code !== SSL_REQUEST && packet.code !== GSSENC_REQUEST) {
    await endClient(socket, fatal('28000', 'gateway requires TLS with a client certificate'));
  }
  throw new Fault('PROTOCOL_VIOLATION', 'the start-up packet asks for no TLS, or not for it alone');
}

/** An encryption request carries nothing, and nothing may have arrived behind it. */
function isBare(packet: FirstPacket, socket: Socket): boolean {
  return packet.body.length === 0 && socket.readableLength === 0;
}

async function startsTls(socket: Socket, signal: AbortSignal): Promise<boolean> {
  const first = await readExactly(socket, 1, signal);
  if (first === undefined) return false;
  socket.unshift(first);
  return first[0] === TLS_HANDSHAKE;
}

/** @returns undefined if the stream ends early or the packet's length is out of bounds */
export async function readFirstPacket(
  stream: Duplex,
  signal: AbortSignal,
): Promise<FirstPacket | undefined> {
  const head = await readExactly(stream, 8, signal);
  if (head === undefined) return undefined;
  const length = head.readInt32BE(0);
  if (length < 8 || length > LONGEST_STARTUP_PACKET) return undefined;
  const body = length === 8 ? Buffer.alloc(0) : await readExactly(stream, length - 8, signal);
  return body === undefined ? undefined : { code: head.readInt32BE(4), body };
}

/** @returns undefined if it is no well-formed CancelRequest */
export function readCancel({ code, body }: FirstPacket): CancelPacket | undefined {
  if (code !== CANCEL_REQUEST || body.length !== 8) return undefined;
  return { processId: body.readInt32BE(0), secret: body.subarray(4) };
}

/** Reads a StartupMessage; what may not be asked for comes back as the error to answer. */
export function readStartup({ code, body }: FirstPacket): Startup | PostgresError {
  if (code >>> 16 !== PROTOCOL_3_0 >>> 16) {
    return refused('0A000', 'the gateway speaks protocol 3.0');
  }
  const pairs = readPairs(body);
  if (pairs === undefined) return refused('08P01', 'malformed StartupMessage');
  const unknownOptions = pairs.map(([name]) => name).filter((name) => name.startsWith('_pq_.'));
  const known = pairs.filter(([name]) => !name.startsWith('_pq_.'));
  const wishes = collectWishes(known);
  if ('sqlstate' in wishes) return wishes;
  const { user = '', database = '', settings } = wishes;
  if (user === '') return refused('28000', 'no user name in the StartupMessage');
  const newer = code > PROTOCOL_3_0 || unknownOptions.length > 0;
  return {
    user,
    database: database === '' ? user : database,
    settings: settingsForBackend(settings),
    client: clientWords(user, settings),
    negotiate: newer ? { unknownOptions } : undefined,
  };
}

interface Wishes {
  readonly user: string | undefined;
  readonly database: string | undefined;
  readonly settings: ReadonlyMap<string, string>;
}

function collectWishes(pairs: readonly (readonly [string, string])[]): Wishes | PostgresError {
  const given = new Map<string, string>();
  for (const [name, value] of pairs) {
    if (given.has(name)) return refused('08P01', `"${name}" is given twice`);
    given.set(name, value);
  }
  const { user, database, replication, options, ...rest } = Object.fromEntries(given);
  if (replication !== undefined && !['false', 'off', 'no', '0'].includes(replication)) {
    return refused('42501', 'replication is not served by the gateway');
  }
  const fromOptions = parseOptions(options ?? '');
  if (fromOptions === undefined) {
    return refused('42501', 'options may hold only -c name=value');
  }
  const settings = new Map<string, string>();
  // As in the server: what stands in its own field wins over `options`.
  for (const [name, value] of [...fromOptions, ...Object.entries(rest)]) {
    const rule = refusePinned(name, value);
    if (rule !== undefined) return settingRefused(name, rule);
    settings.set(name, value);
  }
  return { user, database, settings };
}

function settingsForBackend(settings: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  const kept = [...settings].filter(
    ([name]) => name !== REASON_SETTING && !PINNED_SETTINGS.has(name),
  );
  return new Map(kept);
}

function clientWords(
  user: string,
  settings: ReadonlyMap<string, string>,
): Readonly<Record<string, string>> {
  const applicationName = settings.get('application_name');
  const reason = settings.get(REASON_SETTING);
  return {
    user,
    ...(applicationName === undefined ? {} : { application_name: applicationName }),
    ...(reason === undefined ? {} : { reason }),
  };
}

/** Names in lower case, so that `DateStyle` and `datestyle` are one. */
function readPairs(body: Buffer): (readonly [string, string])[] | undefined {
  if (body.at(-1) !== 0 || !isUtf8(body)) return undefined;
  const texts = body.toString('utf8', 0, body.length - 1).split('\0');
  // Each text ends in a zero byte, so the split leaves an empty one at the end.
  if (texts.pop() !== '' || texts.length % 2 !== 0) return undefined;
  const pairs: (readonly [string, string])[] = [];
  for (let index = 0; index < texts.length; index += 2) {
    const name = texts[index] ?? '';
    if (name === '') return undefined;
    pairs.push([name.toLowerCase(), texts[index + 1] ?? '']);
  }
  return pairs;
}

function refused(sqlstate: string, message: string): PostgresError {
  return { severity: 'FATAL', sqlstate, message };
}
