/**
 * The messages a server sends: written where the gateway answers its client, read where it must know
 * what the backend said.
 *
 * Source: PostgreSQL 15, "Message Formats" and "Error and Notice Message Fields".
 */

import { PROTOCOL_3_0 } from './frontend-messages.ts';
import { type BodyReader, cstring, int32, message } from './message-body.ts';

export type TransactionStatus = 'I' | 'T' | 'E';

/** Of an ErrorResponse only what the gateway acts on. */
export interface ErrorFields {
  /** Never localised, e.g. `FATAL`. */
  readonly severity: string;
  readonly sqlstate: string;
  /** May hold cells and literals: for a cause, never for a record or a log. */
  readonly message: string;
}

export interface BackendKey {
  readonly processId: number;
  readonly secret: Buffer;
}

export function authenticationOk(): Buffer {
  return message('R', int32(0));
}

export function parameterStatus(name: string, value: string): Buffer {
  return message('S', cstring(name), cstring(value));
}

export function backendKeyData(processId: number, secret: Uint8Array): Buffer {
  return message('K', int32(processId), secret);
}

export function readyForQuery(status: TransactionStatus): Buffer {
  return message('Z', Buffer.from(status, 'latin1'));
}

/** Tells a client that it gets protocol 3.0 and which of its options are not known. */
export function negotiateProtocolVersion(unknownOptions: readonly string[]): Buffer {
  const names = unknownOptions.map(cstring);
  return message('v', int32(PROTOCOL_3_0), int32(names.length), ...names);
}

/** @throws Fault PROTOCOL_VIOLATION, as all readers here */
export function readParameterStatus(body: BodyReader): [name: string, value: string] {
  const pair: [string, string] = [body.cstring(), body.cstring()];
  body.finish();
  return pair;
}

export function readBackendKeyData(body: BodyReader): BackendKey {
  const processId = body.int32();
  const secret = Buffer.from(body.bytes(body.left));
  return { processId, secret };
}

/** @returns undefined for a status that does not exist */
export function readReadyForQuery(body: BodyReader): TransactionStatus | undefined {
  const status = String.fromCharCode(body.byte());
  body.finish();
  return status === 'I' || status === 'T' || status === 'E' ? status : undefined;
}

/** The command tag, e.g. `SELECT 3`. */
export function readCommandComplete(body: BodyReader): string {
  const tag = body.cstringBytes().toString('latin1');
  body.finish();
  return tag;
}

/** Reads an ErrorResponse or NoticeResponse, whatever the encoding of its text. */
export function readErrorFields(body: BodyReader): ErrorFields {
  const fields = new Map<string, string>();
  for (let type = body.byte(); type !== 0; type = body.byte()) {
    fields.set(String.fromCharCode(type), body.cstringBytes().toString('utf8'));
  }
  body.finish();
  return {
    severity: fields.get('V') ?? fields.get('S') ?? '',
    sqlstate: fields.get('C') ?? '',
    message: fields.get('M') ?? '',
  };
}

/** The rows that a command tag counts, e.g. 5 of `INSERT 0 5`; undefined if it counts none. */
export function rowsOfTag(tag: string): number | undefined {
  const match = /^(?:SELECT|INSERT \d+|UPDATE|DELETE|MERGE|MOVE|FETCH|COPY) (\d{1,15})$/.exec(tag);
  return match === null ? undefined : Number(match[1]);
}
