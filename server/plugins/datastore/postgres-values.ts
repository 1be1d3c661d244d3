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
  if (typeof sample === 'string')
    return { type: 'text', encoded: encodeArray(TEXT, values, textElement) };
  if (sample instanceof Uint8Array)
    return { type: 'bytea', encoded: encodeArray(BYTEA, values, bytesElement) };
  return { type: 'bigint', encoded: encodeArray(INT8, values, integerElement) };
}

interface Element {
  readonly length: number;
  write(into: Buffer, at: number): void;
}

function encodeArray(
  elementType: number,
  values: readonly SqlValue[],
  element: (value: SqlValue) => Element,
): Buffer {
  const elements = values.map((value) => (value === null ? undefined : element(value)));
  const size = elements.reduce((sum, one) => sum + 4 + (one?.length ?? 0), 20);
  const into = Buffer.allocUnsafe(size);
  let at = into.writeInt32BE(ONE_DIMENSION, 0);
  at = into.writeInt32BE(elements.includes(undefined) ? 1 : 0, at);
  at = into.writeInt32BE(elementType, at);
  at = into.writeInt32BE(elements.length, at);
  at = into.writeInt32BE(FIRST_INDEX, at);
  for (const one of elements) {
    at = into.writeInt32BE(one?.length ?? NULL_LENGTH, at);
    one?.write(into, at);
    at += one?.length ?? 0;
  }
  return into;
}

function textElement(value: SqlValue): Element {
  if (typeof value !== 'string') throw mixed();
  const text = withoutNul(value);
  const length = Buffer.byteLength(text);
  return { length, write: (into, at) => void into.write(text, at) };
}

function bytesElement(value: SqlValue): Element {
  if (!(value instanceof Uint8Array)) throw mixed();
  return { length: value.length, write: (into, at) => into.set(value, at) };
}

function integerElement(value: SqlValue): Element {
  if (typeof value !== 'number' && typeof value !== 'bigint') throw mixed();
  const integer = BigInt(value);
  return { length: 8, write: (into, at) => void into.writeBigInt64BE(integer, at) };
}

function mixed(): TypeError {
  return new TypeError('the values of a column are of several types');
}

function withoutNul(text: string): string {
  if (text.includes('\0')) throw new Fault('INVALID_ARGUMENT', 'text must not hold a NUL');
  return text;
}
