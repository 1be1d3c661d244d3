/**
 * Cuts a stream of Postgres messages into frames, looks at each, and puts together what goes on.
 *
 * Source: PostgreSQL 15, "Message Flow" and "Message Formats": a type byte, then an int32 length that
 * counts itself and the body. Threat: every length comes from a peer, so the type and the length are
 * checked as soon as they are read, before anything is held for them.
 */
import { Fault } from '../../../../../runtime/fault.ts';

/** Type byte and length field. */
export const HEADER_BYTES = 5;

/** A row or a piece of COPY data up to this length is held until it is whole, a longer one goes on in parts. */
const LONGEST_HELD_STREAMED_BYTES = 64 * 1024;

/** The longest message of a streamed type that is ever whole in memory. */
const LONGEST_WHOLE_STREAMED_BYTES = 32 * 1024 * 1024;

/** What may arrive in one direction. */
export interface FrameRules {
  /** Longest length field by type, e.g. `{ Q: 1024 }`. A type that is not named is refused. */
  readonly limits: Readonly<Record<string, number>>;
  /** Types whose body need not be whole in memory, e.g. `Dd`. */
  readonly streamed: string;
  /** Whether the next message of a streamed type must be whole all the same. */
  mustHold?(type: string): boolean;
}

/** What a handler says of a message that it cannot tell about yet. */
export const NOT_YET = Symbol('not yet');

/**
 * Looks at one message: `data[start]` is its type. `end` may lie before the message's own end if its
 * type is streamed.
 * @returns bytes to send in its place; undefined to hand it on as it is; NOT_YET to be asked again for
 * the same message when the stream is resumed, with nothing behind it looked at before
 * @throws Fault PROTOCOL_VIOLATION or any other, which ends the stream
 */
export type FrameHandler = (
  data: Buffer,
  start: number,
  end: number,
) => Buffer | typeof NOT_YET | undefined;

/** One direction of one connection. */
export class FrameStream {
  readonly #limits: Float64Array;
  readonly #streamed: Uint8Array;
  readonly #handle: FrameHandler;
  readonly #mustHold: FrameRules['mustHold'];
  #held = EMPTY;
  #heldBytes = 0;
  /** Bytes that must be held before there is something to look at. */
  #wanted = HEADER_BYTES;
  /** Bytes of a streamed message that are still to come. */
  #skip = 0;
  #isWaiting = false;

  constructor(rules: FrameRules, handle: FrameHandler) {
    this.#limits = new Float64Array(256);
    this.#streamed = new Uint8Array(256);
    for (const [type, limit] of Object.entries(rules.limits)) {
      this.#limits[type.charCodeAt(0)] = limit;
    }
    for (const type of rules.streamed) this.#streamed[type.charCodeAt(0)] = 1;
    this.#handle = handle;
    this.#mustHold = rules.mustHold;
  }

  /** True where all that was handed on ends with a whole message. */
  get atBoundary(): boolean {
    return this.#skip === 0;
  }

  /** The handler cannot tell about a message yet: what comes is held. */
  get isWaiting(): boolean {
    return this.#isWaiting;
  }

  /** Goes on with the message that the handler could not tell about. @throws as `push` */
  resume(write: (bytes: Buffer) => void): void {
    if (!this.#isWaiting) return;
    this.#isWaiting = false;
    this.#walk(this.#takeHeld(), write);
  }

  /**
   * Takes the next bytes and writes, at once, all that may go on: what was held first, in a write of
   * its own, so that the chunk is not copied. What was accepted before a refused message is written too.
   * @throws Fault PROTOCOL_VIOLATION, and what the handler throws
   */
  push(chunk: Buffer, write: (bytes: Buffer) => void): void {
    let from = 0;
    while (this.#heldBytes > 0 && !this.#isWaiting) {
      const lacking = this.#wanted - this.#heldBytes;
      this.#hold(
        from === 0 && chunk.length <= lacking ? chunk : chunk.subarray(from, from + lacking),
      );
      from += lacking;
      if (from > chunk.length) return;
      this.#walk(this.#takeHeld(), write);
    }
    if (from >= chunk.length) return;
    const rest = from === 0 ? chunk : chunk.subarray(from);
    if (this.#isWaiting) this.#hold(rest);
    else this.#walk(rest, write);
  }

  /** Hands on the messages of `data`, and holds what must wait for more. */
  #walk(data: Buffer, write: (bytes: Buffer) => void): void {
    const out: Buffer[] = [];
    let kept = 0;
    let position = Math.min(this.#skip, data.length);
    this.#skip -= position;
    try {
      while (position < data.length) {
        const length = this.#ready(data, position);
        if (length === 0) break;
        const next = position + length;
        const end = Math.min(next, data.length);
        const instead = this.#handle(data, position, end);
        this.#isWaiting = instead === NOT_YET;
        if (instead === NOT_YET) break;
        if (instead !== undefined) {
          replace(out, data.subarray(kept, position), instead);
          kept = end;
        }
        this.#skip = next - end;
        position = end;
      }
    } finally {
      if (position > kept) out.push(part(data, kept, position));
      emit(out, write);
    }
    if (position < data.length) this.#hold(data.subarray(position));
  }

  #takeHeld(): Buffer {
    const data = this.#held.subarray(0, this.#heldBytes);
    this.#held = EMPTY;
    this.#heldBytes = 0;
    return data;
  }

  /** Length of the message at `position`, its type byte included; 0 if more of it must come first. */
  #ready(data: Buffer, position: number): number {
    this.#wanted = HEADER_BYTES;
    if (data.length - position < HEADER_BYTES) return 0;
    const type = data[position] ?? 0;
    const length = data.readInt32BE(position + 1);
    const limit = this.#limits[type] ?? 0;
    if (limit === 0) throw violation(`message type ${named(type)} is not allowed here`);
    if (length < 4 || length > limit) {
      throw violation(`message ${named(type)} says it is ${length} bytes long`);
    }
    this.#wanted = length + 1;
    const isWhole = data.length - position > length;
    const isLong = this.#streamed[type] === 1 && length > LONGEST_HELD_STREAMED_BYTES;
    return isWhole || (isLong && this.#goesInParts(type, length)) ? length + 1 : 0;
  }

  #goesInParts(type: number, length: number): boolean {
    if (this.#mustHold?.(String.fromCharCode(type)) !== true) return true;
    if (length <= LONGEST_WHOLE_STREAMED_BYTES) return false;
    throw new Fault('RESOURCE_EXHAUSTED', 'a row is too long to be masked');
  }

  /** Grows by doubling, so that a message in very small pieces costs no more than one in large ones. */
  #hold(bytes: Buffer): void {
    const needed = this.#heldBytes + bytes.length;
    if (needed > this.#held.length) {
      const grown = Buffer.allocUnsafe(Math.max(needed, this.#held.length * 2));
      this.#held.copy(grown, 0, 0, this.#heldBytes);
      this.#held = grown;
    }
    bytes.copy(this.#held, this.#heldBytes);
    this.#heldBytes = needed;
  }
}

const EMPTY = Buffer.alloc(0);

function replace(out: Buffer[], before: Buffer, instead: Buffer): void {
  if (before.length > 0) out.push(before);
  if (instead.length > 0) out.push(instead);
}

function part(data: Buffer, start: number, end: number): Buffer {
  return start === 0 && end === data.length ? data : data.subarray(start, end);
}

function emit(out: readonly Buffer[], write: (bytes: Buffer) => void): void {
  const only = out[0];
  if (only !== undefined) write(out.length === 1 ? only : Buffer.concat(out));
}

function violation(message: string): Fault {
  return new Fault('PROTOCOL_VIOLATION', message);
}

function named(type: number): string {
  return type > 0x20 && type < 0x7f
    ? `'${String.fromCharCode(type)}'`
    : `0x${type.toString(16).padStart(2, '0')}`;
}
