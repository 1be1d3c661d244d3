/**
 * DER, strictly: what we read comes from strangers, and two readings of one certificate are an
 * attack. Refused: indefinite or longer than minimal lengths, tag numbers over 30, integers with
 * needless bytes, trailing bytes, and anything over 64 KiB unless another bound is asked for.
 *
 * Source: X.690 (2021) clauses 8 and 10.
 */

/** One value: its tag byte, what it holds, and both with the length between them. */
export class Der {
  readonly tag: number;
  readonly #bytes: Buffer;
  readonly #start: number;
  readonly #from: number;
  readonly #end: number;

  /** @param at where the value starts in `bytes`, where its content does, and where both end */
  constructor(
    bytes: Buffer,
    tag: number,
    at: { readonly start: number; readonly from: number; readonly end: number },
  ) {
    this.tag = tag;
    this.#bytes = bytes;
    this.#start = at.start;
    this.#from = at.from;
    this.#end = at.end;
  }

  // A view costs more than the reading: it is made when it is asked for.
  get content(): Buffer {
    return this.#bytes.subarray(this.#from, this.#end);
  }

  get raw(): Buffer {
    return this.#bytes.subarray(this.#start, this.#end);
  }
}

/** Bytes that are no strict DER, or not the DER asked for. Callers turn it into their own Fault. */
export class DerError extends Error {
  override readonly name = 'DerError';
}

/** Bounds every structure that is read or written, unless another bound is asked for. */
export const MAXIMUM_DER_BYTES = 65_536;

/** Tag bytes, constructed bit included. */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utf8String: 0x0c,
  printableString: 0x13,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** Reads values one after the other from the content of a constructed one. */
export class DerReader {
  readonly #bytes: Buffer;
  readonly #mostBytes: number;
  #at = 0;

  constructor(bytes: Uint8Array, mostBytes = MAXIMUM_DER_BYTES) {
    if (bytes.length > mostBytes) throw new DerError(`longer than ${mostBytes} bytes`);
    this.#mostBytes = mostBytes;
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** The one value that `bytes` are, with nothing after it. */
  static only(bytes: Uint8Array, tag: number, mostBytes = MAXIMUM_DER_BYTES): Der {
    const reader = new DerReader(bytes, mostBytes);
    const value = reader.take(tag);
    reader.end();
    return value;
  }

  /** A reader over a value's parts. */
  static inside(value: Der, mostBytes = MAXIMUM_DER_BYTES): DerReader {
    return new DerReader(value.content, mostBytes);
  }

  get done(): boolean {
    return this.#at === this.#bytes.length;
  }

  any(): Der {
    const start = this.#at;
    const tag = this.#byte();
    if ((tag & 0x1f) === 0x1f) throw new DerError('tag number over 30');
    const length = this.#length();
    const from = this.#at;
    if (length > this.#bytes.length - from) throw new DerError('length beyond the end');
    this.#at = from + length;
    return new Der(this.#bytes, tag, { start, from, end: this.#at });
  }

  take(tag: number): Der {
    const value = this.any();
    if (value.tag !== tag) throw new DerError(`tag ${hex(value.tag)} where ${hex(tag)} belongs`);
    return value;
  }

  optional(tag: number): Der | undefined {
    return this.#bytes[this.#at] === tag ? this.any() : undefined;
  }

  /** A reader over the parts of the SEQUENCE that comes next. */
  sequence(): DerReader {
    return DerReader.inside(this.take(TAG.sequence), this.#mostBytes);
  }

  end(): void {
    if (!this.done) throw new DerError('bytes after the last value');
  }

  #byte(): number {
    const byte = this.#bytes[this.#at];
    if (byte === undefined) throw new DerError('ends too early');
    this.#at += 1;
    return byte;
  }

  #length(): number {
    const first = this.#byte();
    if (first < 0x80) return first;
    const bytes = first - 0x80;
    const most = this.#mostBytes > MAXIMUM_DER_BYTES ? 3 : 2;
    if (bytes < 1 || bytes > most) throw new DerError('length indefinite or too large');
    let length = 0;
    for (let left = bytes; left > 0; left--) length = length * 256 + this.#byte();
    if (length < (bytes === 1 ? 0x80 : 256 ** (bytes - 1)))
      throw new DerError('length not minimal');
    return length;
  }
}

/** TRUE; a DEFAULT FALSE has no encoding in DER, so FALSE is refused. */
export function readTrue(value: Der): true {
  if (value.content.length !== 1 || value.content[0] !== 0xff) {
    throw new DerError('BOOLEAN other than TRUE where FALSE is the default');
  }
  return true;
}

/** The bytes of a non-negative INTEGER, without the leading zero that only keeps the sign. */
export function readUnsigned(value: Der): Buffer {
  const [first, second] = value.content;
  if (first === undefined) throw new DerError('empty INTEGER');
  if (first >= 0x80) throw new DerError('negative INTEGER');
  if (first !== 0 || second === undefined) return value.content;
  if (second < 0x80) throw new DerError('INTEGER not minimal');
  return value.content.subarray(1);
}

/** A non-negative INTEGER of at most 31 bits. */
export function readSmallInteger(value: Der): number {
  const bytes = readUnsigned(value);
  const number = bytes.length <= 4 ? bytes.readUIntBE(0, bytes.length) : Number.MAX_SAFE_INTEGER;
  if (number > 0x7fff_ffff) throw new DerError('INTEGER too large');
  return number;
}

/** An OBJECT IDENTIFIER in dotted form. */
export function readOid(value: Der): string {
  const bytes = value.content;
  if (bytes.length === 0 || bytes.length > 32 || (bytes.at(-1) ?? 0x80) >= 0x80) {
    throw new DerError('malformed OBJECT IDENTIFIER');
  }
  const arcs: number[] = [];
  let arc = 0;
  let fresh = true;
  for (const byte of bytes) {
    if (fresh && byte === 0x80) throw new DerError('OBJECT IDENTIFIER not minimal');
    arc = arc * 128 + (byte & 0x7f);
    if (arc > Number.MAX_SAFE_INTEGER / 128) throw new DerError('OBJECT IDENTIFIER too large');
    fresh = byte < 0x80;
    if (!fresh) continue;
    arcs.push(arc);
    arc = 0;
  }
  const [head = 0, ...rest] = arcs;
  const top = Math.min(2, Math.floor(head / 40));
  return [top, head - top * 40, ...rest].join('.');
}

/** The octets of a BIT STRING that is whole octets: a key or a signature. */
export function readOctetBits(value: Der): Buffer {
  if (value.content[0] !== 0) throw new DerError('BIT STRING that is not whole octets');
  return value.content.subarray(1);
}

/** The numbers of the bits set in a named-bit list, which DER writes without trailing zeros. */
export function readNamedBits(value: Der): ReadonlySet<number> {
  const [unused = 8, ...bytes] = value.content;
  const last = bytes.at(-1);
  if (last === undefined || unused > 7 || ((last >> unused) & 1) === 0) {
    throw new DerError('named bits not minimal');
  }
  if (bytes.length > 4 || (last & ((1 << unused) - 1)) !== 0) throw new DerError('stray bits');
  const set = new Set<number>();
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    if (((bytes[bit >> 3] ?? 0) & (0x80 >> (bit & 7))) !== 0) set.add(bit);
  }
  return set;
}

/** IA5String content under an implicit tag. */
export function readAscii(value: Der): string {
  if (value.content.some((byte) => byte >= 0x80)) throw new DerError('IA5String beyond ASCII');
  return value.content.toString('latin1');
}

const TIME = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/;

/**
 * UTCTime for 1950 to 2049, GeneralizedTime for the years that it cannot say: those after, and those
 * before, as in the authorities of programs that leave notBefore at the year 1.
 * Source: RFC 5280 4.1.2.5.
 */
export function readTime(value: Der): Date {
  const text = value.content.toString('latin1');
  const utc = value.tag === TAG.utcTime;
  if (!utc && value.tag !== TAG.generalizedTime) throw new DerError('no time');
  const full = utc ? `${Number(text.slice(0, 2)) < 50 ? '20' : '19'}${text}` : text;
  const iso = full.replace(TIME, '$1-$2-$3T$4:$5:$6.000Z');
  const time = new Date(iso);
  // A date such as 30 February is moved by Date, so it is compared with what it came from.
  if (iso === full || Number.isNaN(time.getTime()) || time.toISOString() !== iso) {
    throw new DerError('malformed time');
  }
  if (!utc && isUtcTime(time)) throw new DerError('GeneralizedTime of a year that is UTCTime');
  return time;
}

function isUtcTime(time: Date): boolean {
  const year = time.getUTCFullYear();
  return year >= 1950 && year < 2050;
}

/** One value from its parts. */
export function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  return boundedDer(tag, parts, MAXIMUM_DER_BYTES);
}

/** As `der`, for what may be longer than 64 KiB; 16 MiB is what the header can tell. */
export function boundedDer(tag: number, parts: readonly Uint8Array[], mostBytes: number): Buffer {
  let length = 0;
  for (const part of parts) length += part.length;
  const head = derHeader(tag, length);
  if (head.length + length > Math.min(mostBytes, 0xff_ffff))
    throw new DerError(`longer than ${mostBytes} bytes`);
  return Buffer.concat([head, ...parts], head.length + length);
}

export function derInteger(unsigned: Uint8Array): Buffer {
  let from = 0;
  while (from < unsigned.length - 1 && unsigned[from] === 0) from++;
  const bytes = unsigned.subarray(from);
  return (bytes[0] ?? 0) >= 0x80
    ? der(TAG.integer, Buffer.of(0), bytes)
    : der(TAG.integer, bytes.length === 0 ? Buffer.of(0) : bytes);
}

export function derOid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const bytes = [first * 40 + second, ...rest].flatMap((arc) => {
    const groups = [arc % 128];
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128)) {
      groups.unshift((left % 128) | 0x80);
    }
    return groups;
  });
  return der(TAG.oid, Buffer.from(bytes));
}

/** A BIT STRING of whole octets. */
export function derOctetBits(octets: Uint8Array): Buffer {
  return der(TAG.bitString, Buffer.of(0), octets);
}

/** The form that `readTime` demands; parts of a second are cut off. */
export function derTime(time: Date): Buffer {
  const digits = time.toISOString().replace(/\.\d+/, '').replace(/[-:T]/g, '');
  return isUtcTime(time)
    ? der(TAG.utcTime, Buffer.from(digits.slice(2), 'latin1'))
    : der(TAG.generalizedTime, Buffer.from(digits, 'latin1'));
}

/** Tag and length of a value whose content comes after them. */
export function derHeader(tag: number, length: number): Buffer {
  if (length < 0x80) return Buffer.of(tag, length);
  if (length < 0x100) return Buffer.of(tag, 0x81, length);
  if (length < 0x1_0000) return Buffer.of(tag, 0x82, length >> 8, length & 0xff);
  return Buffer.of(tag, 0x83, length >> 16, (length >> 8) & 0xff, length & 0xff);
}

function hex(tag: number): string {
  return `0x${tag.toString(16).padStart(2, '0')}`;
}
