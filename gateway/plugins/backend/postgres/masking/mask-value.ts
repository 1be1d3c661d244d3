/**
 * What stands in place of one cell of a result. Same masks as the views of `writ backend setup`, on
 * bytes of the wire: a replacement always parses as the column's type, or is NULL.
 *
 * Source: PostgreSQL 15, "Formats and Format Codes"; the binary forms are those of each type's send
 * function: integers and floats big-endian, dates in days and timestamps in microseconds since 2000.
 */
import { createHmac } from 'node:crypto';
import { Mask } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';

/** How the cells of one column are shown. */
export interface ColumnMask {
  readonly mask: Mask;
  /** For MASK_RANGE. */
  readonly rangeSize: bigint;
  readonly typeOid: number;
  /** -1 for none. */
  readonly typmod: number;
  readonly binary: boolean;
  /** For MASK_HASH. */
  readonly hashKey: Uint8Array;
}

export const TYPE = {
  text: 25,
  varchar: 1043,
  bpchar: 1042,
  int2: 21,
  int4: 23,
  int8: 20,
  float4: 700,
  float8: 701,
  numeric: 1700,
  date: 1082,
  timestamp: 1114,
  timestamptz: 1184,
  uuid: 2950,
} as const;

const TEXT_TYPES: ReadonlySet<number> = new Set([TYPE.text, TYPE.varchar, TYPE.bpchar]);
/** A `varchar(n)` has the typmod n + 4. */
const TYPMOD_BASE = 4;
const SHORTEST_FOR_LAST4 = 8;
const FEWEST_DIGITS = 10;
const STAR = 0x2a;
const AT = 0x40;
const EMAIL_MIDDLE = Buffer.from('***@', 'latin1');
const CONSTANT = Buffer.from('***', 'latin1');
const LONGEST_NUMBER = 1000;
const MICROSECONDS_PER_MS = 1000n;
const MS_PER_DAY = 86_400_000;
const EPOCH_2000_MS = Date.UTC(2000, 0, 1);

/** @returns null for SQL NULL */
export function maskValue(column: ColumnMask, value: Buffer): Buffer | null {
  switch (column.mask) {
    case Mask.YEAR:
      return yearOf(column, value);
    case Mask.RANGE:
      return rangeOf(column, value);
    case Mask.HASH:
      return hashOf(column, value);
    default:
      return TEXT_TYPES.has(column.typeOid) ? textMask(column, value) : null;
  }
}

function textMask(column: ColumnMask, value: Buffer): Buffer | null {
  switch (column.mask) {
    case Mask.FULL:
      return column.typmod < TYPMOD_BASE ? CONSTANT : cut(column, '***');
    case Mask.LAST4:
      return isAscii(value) ? lastFourBytes(value) : cut(column, lastFour(value.toString('utf8')));
    case Mask.EMAIL:
      return emailBytes(column, value) ?? cut(column, email(value.toString('utf8')));
    default:
      return null;
  }
}

/** As an explicit cast does. */
function cut({ typmod }: ColumnMask, text: string): Buffer {
  if (typmod < TYPMOD_BASE) return Buffer.from(text, 'utf8');
  return Buffer.from([...text].slice(0, typmod - TYPMOD_BASE).join(''), 'utf8');
}

function isAscii(value: Buffer): boolean {
  for (const byte of value) if (byte > 0x7f) return false;
  return true;
}

function lastFourBytes(value: Buffer): Buffer {
  const shown = value.length >= SHORTEST_FOR_LAST4 ? 4 : 0;
  const masked = Buffer.alloc(value.length, STAR);
  if (shown > 0) value.copy(masked, value.length - shown, value.length - shown);
  return masked;
}

function lastFour(text: string): string {
  const points = [...text];
  const shown = points.length >= SHORTEST_FOR_LAST4 ? 4 : 0;
  return '*'.repeat(points.length - shown) + points.slice(points.length - shown).join('');
}

/** @returns undefined where bytes are not enough to tell */
function emailBytes({ typmod }: ColumnMask, value: Buffer): Buffer | undefined {
  const first = value[0] ?? 0x80;
  const mark = value.indexOf(AT);
  const domain = value.length - value.lastIndexOf(AT) - 1;
  const length = 1 + EMAIL_MIDDLE.length + domain;
  const isCut = typmod >= TYPMOD_BASE && length > typmod - TYPMOD_BASE;
  if (first > 0x7f || mark < 1 || isCut) return undefined;
  const masked = Buffer.allocUnsafe(length);
  masked[0] = first;
  EMAIL_MIDDLE.copy(masked, 1);
  value.copy(masked, 1 + EMAIL_MIDDLE.length, value.length - domain);
  return masked;
}

function email(text: string): string {
  if (text.indexOf('@') < 1) return '***';
  const [first = ''] = text;
  return `${first}***@${text.slice(text.lastIndexOf('@') + 1)}`;
}

function hashOf(column: ColumnMask, value: Buffer): Buffer | null {
  const { typeOid, typmod, binary } = column;
  const text = binary && !TEXT_TYPES.has(typeOid) ? textOfBinary(typeOid, value) : value;
  if (text === undefined) return null;
  const hex = createHmac('sha256', column.hashKey).update(text).digest('hex');
  if (TEXT_TYPES.has(typeOid)) {
    const fits = typmod < TYPMOD_BASE || typmod - TYPMOD_BASE >= FEWEST_DIGITS;
    return fits ? cut(column, hex) : null;
  }
  switch (typeOid) {
    case TYPE.uuid:
      return binary ? Buffer.from(hex.slice(0, 32), 'hex') : uuidText(hex);
    case TYPE.int8:
      return integer(typeOid, binary, BigInt(`0x${hex.slice(0, 15)}`));
    case TYPE.int4:
      return integer(typeOid, binary, BigInt(`0x${hex.slice(0, 8)}`) & 0x7fff_ffffn);
    case TYPE.numeric:
      return binary || typmod >= 0
        ? null
        : Buffer.from(String(BigInt(`0x${hex.slice(0, 15)}`)), 'latin1');
    default:
      return null;
  }
}

function uuidText(hex: string): Buffer {
  const parts = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20)];
  return Buffer.from(`${parts.join('-')}-${hex.slice(20, 32)}`, 'latin1');
}

function textOfBinary(typeOid: number, value: Buffer): string | undefined {
  const number = integerOf(typeOid, value);
  if (number !== undefined) return String(number);
  if (typeOid !== TYPE.uuid || value.length !== 16) return undefined;
  return uuidText(value.toString('hex')).toString('latin1');
}

const INTEGER_BYTES: ReadonlyMap<number, number> = new Map([
  [TYPE.int2, 2],
  [TYPE.int4, 4],
  [TYPE.int8, 8],
]);

function integerOf(typeOid: number, value: Buffer): bigint | undefined {
  if (INTEGER_BYTES.get(typeOid) !== value.length) return undefined;
  if (value.length === 8) return value.readBigInt64BE();
  return BigInt(value.readIntBE(0, value.length));
}

function integer(typeOid: number, binary: boolean, value: bigint): Buffer | null {
  if (!binary) return Buffer.from(String(value), 'latin1');
  const length = INTEGER_BYTES.get(typeOid);
  if (length === undefined) return null;
  const bytes = Buffer.alloc(length);
  if (length === 8) bytes.writeBigInt64BE(value);
  else bytes.writeIntBE(Number(value), 0, length);
  return bytes;
}

/** Cut towards zero: never farther from zero than the value, so it fits the type. */
function rangeOf({ typeOid, typmod, binary, rangeSize }: ColumnMask, value: Buffer): Buffer | null {
  if (rangeSize < 1n) return null;
  const isFloat = typeOid === TYPE.float4 || typeOid === TYPE.float8;
  if (!isFloat && typeOid !== TYPE.numeric && !INTEGER_BYTES.has(typeOid)) return null;
  const whole = isFloat
    ? wholeOfFloat(typeOid, binary, value)
    : binary
      ? integerOf(typeOid, value)
      : wholeOfText(value);
  if (whole === undefined) return null;
  const shown = (whole / rangeSize) * rangeSize;
  if (isFloat && binary) return floatBytes(typeOid, Number(shown));
  if (typeOid !== TYPE.numeric) return integer(typeOid, binary, shown);
  const scale = typmod < TYPMOD_BASE ? 0 : (typmod - TYPMOD_BASE) & 0x7ff;
  // A scale above 1000 stands for a negative one.
  const zeros = scale > 0 && scale <= LONGEST_NUMBER ? `.${'0'.repeat(scale)}` : '';
  return Buffer.from(`${shown}${zeros}`, 'latin1');
}

function wholeOfText(value: Buffer): bigint | undefined {
  if (value.length > LONGEST_NUMBER) return undefined;
  const digits = /^(-?\d+)(?:\.\d*)?$/.exec(value.toString('latin1'))?.[1];
  return digits === undefined ? undefined : BigInt(digits);
}

function wholeOfFloat(typeOid: number, binary: boolean, value: Buffer): bigint | undefined {
  const length = typeOid === TYPE.float4 ? 4 : 8;
  if (binary && value.length !== length) return undefined;
  if (!binary && value.length > 64) return undefined;
  const number = binary
    ? length === 4
      ? value.readFloatBE()
      : value.readDoubleBE()
    : Number(value.toString('latin1'));
  const most = length === 4 ? 1e37 : 1e300;
  return Math.abs(number) < most ? BigInt(Math.trunc(number)) : undefined;
}

function floatBytes(typeOid: number, value: number): Buffer {
  const bytes = Buffer.alloc(typeOid === TYPE.float4 ? 4 : 8);
  if (bytes.length === 4) bytes.writeFloatBE(value);
  else bytes.writeDoubleBE(value);
  return bytes;
}

const ISO_DATE = /^(\d{4,7})-(\d\d)-(\d\d)/;
const ISO_TIME =
  /^(\d{4,6})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.\d{1,6})?([+-])(\d\d)(?::(\d\d))?$/;

function yearOf({ typeOid, binary }: ColumnMask, value: Buffer): Buffer | null {
  const isDate = typeOid === TYPE.date;
  if (!isDate && typeOid !== TYPE.timestamp && typeOid !== TYPE.timestamptz) return null;
  if (binary) return isDate ? yearOfDays(value) : yearOfMicroseconds(value);
  const text = value.length > 64 ? '' : value.toString('latin1');
  // Other styles than ISO and years before Christ are not told apart.
  if (text.endsWith('BC')) return null;
  if (typeOid === TYPE.timestamptz) return zonedYear(text);
  const year = ISO_DATE.exec(text)?.[1];
  if (year === undefined) return null;
  return Buffer.from(isDate ? `${year}-01-01` : `${year}-01-01 00:00:00`, 'latin1');
}

/** The year in UTC, so that a client's own TimeZone does not move its border. */
function zonedYear(text: string): Buffer | null {
  const parts = ISO_TIME.exec(text);
  if (parts === null) return null;
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = parts
    .slice(1, 7)
    .map(Number);
  const offset = Number(parts[8]) * 60 + Number(parts[9] ?? 0);
  const signed = parts[7] === '-' ? -offset : offset;
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  date.setUTCHours(hour, minute - signed, second);
  const shown = date.getUTCFullYear();
  if (!(shown > 0)) return null;
  return Buffer.from(`${String(shown).padStart(4, '0')}-01-01 00:00:00+00`, 'latin1');
}

function yearOfDays(value: Buffer): Buffer | null {
  if (value.length !== 4) return null;
  const start = startOfYear(EPOCH_2000_MS + value.readInt32BE() * MS_PER_DAY);
  if (start === undefined) return null;
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE((start - EPOCH_2000_MS) / MS_PER_DAY);
  return bytes;
}

function yearOfMicroseconds(value: Buffer): Buffer | null {
  if (value.length !== 8) return null;
  const micros = value.readBigInt64BE();
  const ms = Number(micros / MICROSECONDS_PER_MS) - (micros % MICROSECONDS_PER_MS < 0n ? 1 : 0);
  const start = startOfYear(EPOCH_2000_MS + ms);
  if (start === undefined) return null;
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(BigInt(start - EPOCH_2000_MS) * MICROSECONDS_PER_MS);
  return bytes;
}

/** @returns undefined outside of what a Date can hold, and for infinity */
function startOfYear(ms: number): number | undefined {
  const year = new Date(ms).getUTCFullYear();
  const start = new Date(0).setUTCFullYear(year, 0, 1);
  return Number.isNaN(start) ? undefined : start;
}
