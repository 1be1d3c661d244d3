/** Result rows of a record, as a person reads them. Source: PostgreSQL 15, "Message Formats". */
import { isUtf8 } from 'node:buffer';
import type { ResultRows } from '../proto/gen/writ/gateway/v1/recording_pb.ts';
import { printable } from './table.ts';

const HEADER_BYTES = 5;
/** A message that is longer is shown as its length. */
const LONGEST_MESSAGE = 1024 * 1024;
const SHOWN_CHARACTERS = 100;
const NULL = -1;
const AFTER_NAME_BYTES = 18;

/** Reads the messages that the client of one session got, in whatever pieces they come. */
export class RowLines {
  #held = Buffer.alloc(0);
  /** Of a message that is too long to show. */
  #skip = 0;
  #names: readonly string[] = [];

  lines({ data, isLast }: ResultRows): string[] {
    const lines: string[] = [];
    this.#take(Buffer.from(data));
    while (this.#held.length >= HEADER_BYTES) {
      const length = Math.max(this.#held.readInt32BE(1), 4) + 1;
      if (length > LONGEST_MESSAGE) {
        lines.push(`| (a row or message of ${length} bytes)`);
        const bytes = this.#held;
        this.#held = Buffer.alloc(0);
        this.#skip = length;
        this.#take(bytes);
        continue;
      }
      if (this.#held.length < length) break;
      const line = this.#line(this.#held.subarray(0, length));
      if (line !== undefined) lines.push(line);
      this.#held = this.#held.subarray(length);
    }
    return isLast ? [...lines, '| (no more rows are kept)'] : lines;
  }

  #take(bytes: Buffer): void {
    const skipped = Math.min(this.#skip, bytes.length);
    this.#skip -= skipped;
    this.#held = Buffer.concat([this.#held, bytes.subarray(skipped)]);
  }

  #line(message: Buffer): string | undefined {
    const type = String.fromCharCode(message[0] ?? 0);
    const body = message.subarray(HEADER_BYTES);
    if (type === 'd') return `| ${shown(body)}`;
    if (type !== 'T' && type !== 'D') return undefined;
    try {
      if (type === 'D') return `| ${this.#row(body)}`;
      this.#names = readNames(body);
      return undefined;
    } catch {
      return '| (not readable)';
    }
  }

  #row(body: Buffer): string {
    const values: string[] = [];
    let at = 2;
    for (let left = body.readInt16BE(0); left > 0; left -= 1) {
      const length = body.readInt32BE(at);
      at += 4;
      const name = printable(this.#names[values.length] ?? '?');
      values.push(`${name}=${length === NULL ? 'NULL' : shown(body.subarray(at, at + length))}`);
      at += Math.max(length, 0);
    }
    return values.join(', ');
  }
}

function readNames(body: Buffer): string[] {
  const names: string[] = [];
  let at = 2;
  for (let left = body.readInt16BE(0); left > 0; left -= 1) {
    const end = body.indexOf(0, at);
    if (end < 0) throw new RangeError('a name without end');
    names.push(body.toString('utf8', at, end));
    at = end + 1 + AFTER_NAME_BYTES;
  }
  return names;
}

function shown(value: Buffer): string {
  if (!isUtf8(value)) return `0x${value.toString('hex', 0, SHOWN_CHARACTERS / 2)}`;
  const text = value.toString('utf8').trimEnd();
  return printable(text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}...` : text);
}
