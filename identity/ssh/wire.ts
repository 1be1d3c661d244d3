/**
 * SSH's data types, strictly: what we read comes from strangers, and two readings of one blob are an
 * attack. Each value has one encoding; any other is refused, as is anything beyond the end.
 *
 * Source: RFC 4251 5.
 */
import { Fault } from '../../runtime/fault.ts';

const LONGEST_STRING = 0xffff_ffff;
const LONGEST_NAME = 64;
const NAME = /^[\x21-\x7e]+$/;

// Without ignoreBOM a leading U+FEFF would be dropped, and two texts would read as one.
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The Fault of this folder. The message may reach the peer. */
export function sshInvalid(message: string, cause?: unknown): Fault {
  return new Fault('SSH_INVALID', message, cause === undefined ? undefined : { cause });
}

/** Reads values one after the other. What it returns are views of the bytes it was made with. */
export class SshReader {
  readonly #bytes: Buffer;
  readonly #what: string;
  #at = 0;

  /**
   * @param bytes untrusted; whoever reads bounds their number
   * @param what they are, for messages
   */
  constructor(bytes: Uint8Array, what = 'SSH data') {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#what = what;
  }

  /** How many bytes are left. */
  get rest(): number {
    return this.#bytes.length - this.#at;
  }

  /** How many bytes have been read. */
  get offset(): number {
    return this.#at;
  }

  /** @throws Fault SSH_INVALID, as every method here */
  u8(): number {
    return this.#take(1).readUInt8();
  }

  u32(): number {
    return this.#take(4).readUInt32BE();
  }

  u64(): bigint {
    return this.#take(8).readBigUInt64BE();
  }

  /** RFC 4251 lets any other byte mean true; we do not. */
  boolean(): boolean {
    const byte = this.u8();
    if (byte > 1) throw this.#invalid('boolean neither 0 nor 1');
    return byte === 1;
  }

  /** @param maximum bytes */
  string(maximum = LONGEST_STRING): Buffer {
    const length = this.u32();
    if (length > maximum) throw this.#invalid(`string longer than ${maximum} bytes`);
    return this.#take(length);
  }

  /** @param maximum bytes of UTF-8 */
  text(maximum = LONGEST_STRING): string {
    const bytes = this.string(maximum);
    try {
      return UTF8.decode(bytes);
    } catch (error) {
      throw sshInvalid(`${this.#what}: text is no UTF-8`, error);
    }
  }

  /** What an algorithm, method or extension is called: 1 to 64 of visible ASCII. Source: RFC 4251 6. */
  name(): string {
    const bytes = this.string(LONGEST_NAME);
    const name = bytes.toString('latin1');
    if (!NAME.test(name)) throw this.#invalid('malformed name');
    return name;
  }

  /** A number of zero or more, big-endian, without leading zeros: zero is no bytes. */
  mpint(maximumBytes = LONGEST_STRING): Buffer {
    const bytes = this.string(Math.min(maximumBytes + 1, LONGEST_STRING));
    const [first, second] = bytes;
    if (first === undefined) return bytes;
    if (first >= 0x80) throw this.#invalid('negative number');
    if (first === 0 && (second ?? 0) < 0x80) throw this.#invalid('number not minimal');
    const unsigned = first === 0 ? bytes.subarray(1) : bytes;
    if (unsigned.length > maximumBytes) {
      throw this.#invalid(`number longer than ${maximumBytes} bytes`);
    }
    return unsigned;
  }

  end(): void {
    if (this.rest > 0) throw this.#invalid('bytes after the last value');
  }

  #take(length: number): Buffer {
    if (length > this.rest) throw this.#invalid('ends too early');
    const from = this.#at;
    this.#at += length;
    return this.#bytes.subarray(from, this.#at);
  }

  #invalid(message: string): Fault {
    return sshInvalid(`${this.#what}: ${message}`);
  }
}

/** Writes values one after the other, as SshReader reads them. */
export class SshWriter {
  readonly #parts: Uint8Array[] = [];

  u8(value: number): this {
    const bytes = Buffer.alloc(1);
    bytes.writeUInt8(value);
    return this.raw(bytes);
  }

  u32(value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    return this.raw(bytes);
  }

  u64(value: bigint): this {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(value);
    return this.raw(bytes);
  }

  boolean(value: boolean): this {
    return this.u8(value ? 1 : 0);
  }

  /** @param value text is written as UTF-8 */
  string(value: Uint8Array | string): this {
    const bytes = typeof value === 'string' ? Buffer.from(value, 'utf8') : value;
    return this.u32(bytes.length).raw(bytes);
  }

  /** @param unsigned big-endian; leading zeros are dropped */
  mpint(unsigned: Uint8Array): this {
    let from = 0;
    while (from < unsigned.length && unsigned[from] === 0) from += 1;
    const bytes = unsigned.subarray(from);
    if ((bytes[0] ?? 0) < 0x80) return this.string(bytes);
    return this.u32(bytes.length + 1)
      .u8(0)
      .raw(bytes);
  }

  /** Bytes as they are, without a length; they must not change before `finish`. */
  raw(bytes: Uint8Array): this {
    this.#parts.push(bytes);
    return this;
  }

  finish(): Buffer {
    return Buffer.concat(this.#parts);
  }
}
