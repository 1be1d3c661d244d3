import { isUtf8 } from 'node:buffer';
import { Fault } from '../../../../../runtime/fault.ts';

/** Reads the fields of one message, from front to end; anything that does not fit is refused. */
export class BodyReader {
  readonly #data: Buffer;
  readonly #end: number;
  #position: number;

  /** @param data `data[start]` to `data[end - 1]` are the body */
  constructor(data: Buffer, start: number, end: number) {
    this.#data = data;
    this.#position = start;
    this.#end = end;
  }

  get left(): number {
    return this.#end - this.#position;
  }

  byte(): number {
    return this.#data.readUInt8(this.#advance(1));
  }

  int16(): number {
    return this.#data.readInt16BE(this.#advance(2));
  }

  int32(): number {
    return this.#data.readInt32BE(this.#advance(4));
  }

  /** A view, not a copy. */
  bytes(length: number): Buffer {
    const start = this.#advance(length);
    return this.#data.subarray(start, start + length);
  }

  /** A number of fields, up to 65535. */
  count(): number {
    return this.#data.readUInt16BE(this.#advance(2));
  }

  /** The bytes before the next zero byte, which is taken too. */
  cstringBytes(): Buffer {
    const zero = this.#data.indexOf(0, this.#position);
    if (zero < 0 || zero >= this.#end) throw malformed();
    const bytes = this.#data.subarray(this.#position, zero);
    this.#position = zero + 1;
    return bytes;
  }

  /** Text in UTF-8, strictly. */
  cstring(): string {
    return strictText(this.cstringBytes());
  }

  /** @throws Fault PROTOCOL_VIOLATION if something is left */
  finish(): void {
    if (this.left !== 0) throw malformed();
  }

  #advance(length: number): number {
    const start = this.#position;
    if (length < 0 || length > this.left) throw malformed();
    this.#position += length;
    return start;
  }
}

function strictText(bytes: Buffer): string {
  if (!isUtf8(bytes)) throw malformed();
  return bytes.toString('utf8');
}

function malformed(): Fault {
  return new Fault('PROTOCOL_VIOLATION', 'malformed message');
}

/** A whole message: its type, its length, its body. */
export function message(type: string, ...parts: readonly Uint8Array[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 4);
  return Buffer.concat([Buffer.from(type, 'latin1'), int32(length), ...parts], length + 1);
}

export function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(value);
  return bytes;
}

export function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

/** Text and a zero byte; `text` must hold none of its own. */
export function cstring(text: string): Buffer {
  if (text.includes('\0')) throw malformed();
  return Buffer.from(`${text}\0`, 'utf8');
}
