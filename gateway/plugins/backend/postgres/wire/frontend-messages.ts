/**
 * The messages a client sends: read where the gateway must know them, written where the gateway is a
 * client itself.
 *
 * Source: PostgreSQL 15, "Message Formats".
 */
import { type BodyReader, cstring, int16, int32, message } from './message-body.ts';

export const PROTOCOL_3_0 = 196_608;
export const SSL_REQUEST = 80_877_103;
export const GSSENC_REQUEST = 80_877_104;
export const CANCEL_REQUEST = 80_877_102;

export interface Parse {
  readonly name: string;
  /** The statement as it stands; it may not be UTF-8. */
  readonly text: Buffer;
}

export interface Bind {
  readonly portal: string;
  readonly statement: string;
  /** By position: text as a string, binary as bytes (views), null for SQL NULL. */
  readonly values: readonly (string | Uint8Array | null)[];
}

/** What Describe, Close and Execute name: a prepared statement (`S`) or a portal (`P`). */
export interface Target {
  readonly kind: 'S' | 'P';
  readonly name: string;
}

/** The statement in a Query. */
export function readQuery(body: BodyReader): Buffer {
  const text = body.cstringBytes();
  body.finish();
  return text;
}

/** @throws Fault PROTOCOL_VIOLATION, as all readers here */
export function readParse(body: BodyReader): Parse {
  const name = body.cstring();
  const text = body.cstringBytes();
  body.bytes(body.count() * 4);
  body.finish();
  return { name, text };
}

export function readBind(body: BodyReader): Bind {
  const portal = body.cstring();
  const statement = body.cstring();
  const formats = readFormats(body);
  const values: (string | Uint8Array | null)[] = [];
  const count = body.count();
  for (let index = 0; index < count; index += 1) {
    const length = body.int32();
    const bytes = length === -1 ? null : body.bytes(length);
    const binary = (formats.length === 1 ? formats[0] : formats[index]) === 1;
    values.push(bytes === null || binary ? bytes : bytes.toString('utf8'));
  }
  readFormats(body);
  body.finish();
  return { portal, statement, values };
}

function readFormats(body: BodyReader): number[] {
  const formats: number[] = [];
  for (let left = body.count(); left > 0; left -= 1) formats.push(body.int16());
  return formats;
}

/** Describe or Close. */
export function readTarget(body: BodyReader): Target | undefined {
  const kind = body.byte();
  const name = body.cstring();
  body.finish();
  if (kind === 0x53) return { kind: 'S', name };
  return kind === 0x50 ? { kind: 'P', name } : undefined;
}

/** The portal of an Execute. */
export function readExecute(body: BodyReader): string {
  const portal = body.cstring();
  body.int32();
  body.finish();
  return portal;
}

export function queryMessage(text: string): Buffer {
  return message('Q', cstring(text));
}

export function describePortalMessage(portal: string): Buffer {
  return message('D', Buffer.from('P', 'latin1'), cstring(portal));
}

/** Prepares the unnamed statement unless `name` is given. */
export function parseMessage(text: string, name = ''): Buffer {
  return message('P', cstring(name), cstring(text), int16(0));
}

/** @param parameters in order, e.g. `[['user', 'writ_0123456789abcdef']]` */
export function startupMessage(parameters: readonly (readonly [string, string])[]): Buffer {
  const pairs = parameters.flatMap(([name, value]) => [cstring(name), cstring(value)]);
  return untyped(int32(PROTOCOL_3_0), ...pairs, Buffer.alloc(1));
}

export function sslRequest(): Buffer {
  return untyped(int32(SSL_REQUEST));
}

export function cancelRequest(processId: number, secret: Uint8Array): Buffer {
  return untyped(int32(CANCEL_REQUEST), int32(processId), secret);
}

export function saslInitialResponse(mechanism: string, response: string): Buffer {
  const bytes = Buffer.from(response, 'utf8');
  return message('p', cstring(mechanism), int32(bytes.length), bytes);
}

export function saslResponse(response: string): Buffer {
  return message('p', Buffer.from(response, 'utf8'));
}

/** Bytes that open a connection have no type byte. */
function untyped(...parts: readonly Uint8Array[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 4);
  return Buffer.concat([int32(length), ...parts]);
}
