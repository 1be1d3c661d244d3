/** How long a text may be to be written character by character, which for short ones takes less than a call. */
const SHORT_TEXT = 48;
/** Room that is kept from one message to the next. */
const KEPT_BYTES = 64 * 1024;
const WORST_VARINT = 10;
const TWO_32 = 2 ** 32;

/**
 * Writes protobuf's wire format into one buffer that is used again and again: a record's events come
 * with every statement, and a general writer spends more on each than all else that is done with it.
 *
 * Source: protobuf.dev/programming-guides/encoding.
 */
export class ProtoWriter {
  #bytes = Buffer.allocUnsafe(KEPT_BYTES);
  #length = 0;
  /** Where the contents of the open messages begin. */
  readonly #opened: number[] = [];

  /** A copy of what was written. */
  bytes(): Uint8Array {
    const copy = Buffer.allocUnsafe(this.#length);
    this.#bytes.copy(copy, 0, 0, this.#length);
    return copy;
  }

  /** Begins anew. */
  clear(): void {
    this.#length = 0;
    this.#opened.length = 0;
    if (this.#bytes.length > KEPT_BYTES) this.#bytes = Buffer.allocUnsafe(KEPT_BYTES);
  }

  /** Begins a message in the field; `close` ends it. */
  open(field: number): void {
    this.#tag(field, 2);
    this.#reserve(1);
    this.#length += 1;
    this.#opened.push(this.#length);
  }

  close(): void {
    const start = this.#opened.pop() ?? 0;
    const size = this.#length - start;
    const more = varintBytes(size) - 1;
    if (more > 0) {
      this.#reserve(more);
      this.#bytes.copyWithin(start + more, start, this.#length);
    }
    this.#length = start - 1;
    this.#varint(size);
    this.#length += size;
  }

  /** Left out if it is 0. @param value an unsigned 64-bit integer */
  integer(field: number, value: bigint | number | undefined): void {
    if (!value) return;
    this.#tag(field, 0);
    this.#reserve(WORST_VARINT);
    if (typeof value === 'number' || value <= Number.MAX_SAFE_INTEGER) this.#varint(Number(value));
    else this.#wide(BigInt.asUintN(64, value));
  }

  /** Left out if it is empty. */
  text(field: number, value: string | undefined): void {
    if (value) this.item(field, value);
  }

  /** One of several, or of a oneof: written even if it is empty. */
  item(field: number, value: string | Uint8Array): void {
    this.#tag(field, 2);
    if (typeof value === 'string') {
      this.#string(value);
      return;
    }
    this.#reserve(WORST_VARINT + value.length);
    this.#varint(value.length);
    this.#bytes.set(value, this.#length);
    this.#length += value.length;
  }

  #string(value: string): void {
    if (value.length <= SHORT_TEXT && this.#ascii(value)) return;
    const size = Buffer.byteLength(value, 'utf8');
    this.#reserve(WORST_VARINT + size);
    this.#varint(size);
    this.#length += this.#bytes.write(value, this.#length, 'utf8');
  }

  /** @returns false, with nothing written, if there is a character beyond ASCII */
  #ascii(value: string): boolean {
    const size = value.length;
    this.#reserve(1 + size);
    const bytes = this.#bytes;
    const start = this.#length + 1;
    for (let index = 0; index < size; index += 1) {
      const code = value.charCodeAt(index);
      if (code > 0x7f) return false;
      bytes[start + index] = code;
    }
    bytes[start - 1] = size;
    this.#length = start + size;
    return true;
  }

  #tag(field: number, wireType: number): void {
    this.#reserve(WORST_VARINT);
    this.#varint(field * 8 + wireType);
  }

  #varint(value: number): void {
    const bytes = this.#bytes;
    let left = value;
    let at = this.#length;
    while (left >= TWO_32) {
      bytes[at++] = (left % 128) + 128;
      left = Math.floor(left / 128);
    }
    while (left > 0x7f) {
      bytes[at++] = (left & 0x7f) | 0x80;
      left >>>= 7;
    }
    bytes[at++] = left;
    this.#length = at;
  }

  #wide(value: bigint): void {
    let left = value;
    for (; left > 0x7fn; left >>= 7n) {
      this.#bytes[this.#length++] = Number(left & 0x7fn) | 0x80;
    }
    this.#bytes[this.#length++] = Number(left);
  }

  #reserve(more: number): void {
    const needed = this.#length + more;
    if (needed <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(needed, this.#bytes.length * 2));
    this.#bytes.copy(grown, 0, 0, this.#length);
    this.#bytes = grown;
  }
}

function varintBytes(value: number): number {
  let bytes = 1;
  for (let left = value; left > 0x7f; left = Math.floor(left / 128)) bytes += 1;
  return bytes;
}
