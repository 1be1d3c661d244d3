/**
 * The lines of a backup, each a JSON document: a head, then for each table its columns and rows, then the
 * keys, then an end that counts and hashes what came before it. No part of it depends on the kind of store.
 */
import * as v from 'valibot';
import { Fault } from '../../runtime/fault.ts';
import type { SqlValue } from '../plugins/datastore/datastore.ts';

const NAME = /^[a-z][a-z0-9_]{0,62}$/;
const name = v.pipe(v.string(), v.regex(NAME));
/** Blobs are base64 in an object, so that no text is taken for one. */
const cell = v.union([
  v.string(),
  v.pipe(v.number(), v.safeInteger()),
  v.null(),
  v.strictObject({ base64: v.pipe(v.string(), v.base64()) }),
]);

const lineSchema = v.union([
  v.strictObject({
    format: v.literal('writ-server-backup'),
    schema: v.pipe(v.number(), v.integer(), v.minValue(1)),
    trust_domain: v.string(),
    taken_at: v.pipe(v.string(), v.isoTimestamp()),
  }),
  v.strictObject({ table: name, columns: v.pipe(v.array(name), v.minLength(1)) }),
  v.strictObject({ row: v.array(cell) }),
  v.strictObject({ key: v.string(), pem: v.string() }),
  v.strictObject({ lines: v.number(), sha256: v.string() }),
]);

export type BackupLine = v.InferOutput<typeof lineSchema>;
export type BackupHead = Extract<BackupLine, { format: string }>;
type Cell = v.InferOutput<typeof cell>;

/**
 * @param text untrusted
 * @throws Fault STATE_UNUSABLE
 */
export function parseLine(text: string, number: number): BackupLine {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw damaged(number);
  }
  const parsed = v.safeParse(lineSchema, value);
  if (parsed.success) return parsed.output;
  throw damaged(number);
}

export function cellOf(value: SqlValue): Cell {
  if (value instanceof Uint8Array) return { base64: Buffer.from(value).toString('base64') };
  return typeof value === 'bigint' ? Number(value) : value;
}

export function sqlValueOf(value: Cell): SqlValue {
  if (typeof value !== 'object' || value === null) return value;
  return new Uint8Array(Buffer.from(value.base64, 'base64'));
}

export function damaged(number: number): Fault {
  return new Fault('STATE_UNUSABLE', `the backup is damaged at its line ${number}`);
}
