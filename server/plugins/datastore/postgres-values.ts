import { Fault } from '../../../runtime/fault.ts';
import type { SqlValue } from './datastore.ts';

/** Object identifiers of the types that rows come in. */
const BOOL = 16;
const BYTEA = 17;
const INT2 = 21;
const INT4 = 23;
const INT8 = 20;
const TEXT = 25;
/** What a sum of integers comes in. */
const NUMERIC = 1700;

const INTEGERS: ReadonlySet<number> = new Set([INT2, INT4, INT8, NUMERIC]);

const ONE_DIMENSION = 1;
const FIRST_INDEX = 1;
const NULL_LENGTH = -1;
/** Dimensions, whether there are nulls, the elements' type, how many there are and from which index. */
const HEADER_BYTES = 20;

/** How `pg` reads the columns of a result. */
export const ROW_TYPES = {
  getTypeParser(type: number): (text: string) => SqlValue {
    if (INTEGERS.has(type)) return safeInteger;
    // As in SQLite, which has no other.
    if (type === BOOL) return (text) => (text === 't' ? 1 : 0);
    return type === BYTEA ? bytes : (text) => text;
  },
};

/** @throws Error if it is beyond 2^53, which none of ours is */
function safeInteger(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new Error('an integer of the store is beyond 2^53');
  return value;
}

function bytes(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text.slice(2), 'hex'));
}

/**
 * A value as `pg` sends it.
 * @throws Fault INVALID_ARGUMENT for text with NUL, which PostgreSQL does not hold
 */
export function bindable(value: SqlValue): string | Buffer | null {
  if (value === null) return null;
  if (typeof value === 'string') return withoutNul(value);
  if (typeof value === 'number' || typeof value === 'bigint') return String(value);
  if (value instanceof Uint8Array)
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  throw new TypeError(`a ${typeof value} cannot stand in a row`);
}

/** One column of many rows: an expression for its values, and the array that it takes, if any. */
export interface ColumnArray {
  /** Type of the elements; undefined if all are null. */
  readonly type: 'text' | 'bigint' | 'bytea' | undefined;
  /** PostgreSQL's binary form of an array. */
  readonly encoded: Buffer | undefined;
}

/** Encodes a column: in the binary form nothing needs quoting, and nothing is parsed. */
export function columnArray(values: readonly SqlValue[]): ColumnArray {
  const sample = values.find((value) => value !== null);
  if (sample === undefined) return { type: undefined, encoded: undefined };
  if (typeof sample === 'string') return { type: 'text', encoded: encodeArray(TEXT, values) };
  if (sample instanceof Uint8Array) return { type: 'bytea', encoded: encodeArray(BYTEA, values) };
  return { type: 'bigint', encoded: encodeArray(INT8, values) };
}

function encodeArray(elementType: number, values: readonly SqlValue[]): Buffer {
  const lengths = values.map((value) => lengthOf(elementType, value));
  const size = lengths.reduce((sum, length) => sum + 4 + Math.max(length, 0), HEADER_BYTES);
  const into = Buffer.allocUnsafe(size);
  let at = into.writeInt32BE(ONE_DIMENSION, 0);
  at = into.writeInt32BE(values.includes(null) ? 1 : 0, at);
  at = into.writeInt32BE(elementType, at);
  at = into.writeInt32BE(values.length, at);
  at = into.writeInt32BE(FIRST_INDEX, at);
  for (const [index, value] of values.entries()) {
    const length = lengths[index] ?? NULL_LENGTH;
    at = into.writeInt32BE(length, at);
    if (value === null) continue;
    if (typeof value === 'string') into.write(value, at);
    else if (value instanceof Uint8Array) into.set(value, at);
    else into.writeBigInt64BE(BigInt(value), at);
    at += length;
  }
  return into;
}

/** @throws TypeError if the value is not of the column's type */
function lengthOf(elementType: number, value: SqlValue): number {
  if (value === null) return NULL_LENGTH;
  if (typeof value === 'string' && elementType === TEXT)
    return Buffer.byteLength(withoutNul(value));
  if (value instanceof Uint8Array && elementType === BYTEA) return value.length;
  if ((typeof value === 'number' || typeof value === 'bigint') && elementType === INT8) return 8;
  throw mixed();
}

function mixed(): TypeError {
  return new TypeError('the values of a column are of several types');
}

function withoutNul(text: string): string {
  if (text.includes('\0')) throw new Fault('INVALID_ARGUMENT', 'text must not hold a NUL');
  return text;
}
