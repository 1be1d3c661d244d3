/**
 * BER as DER: some signers write lengths that they do not know yet as indefinite, and texts in pieces.
 * Everything else is left as it is, for the strict reader to judge.
 *
 * Source: X.690 (2021) 8.1.3.6, 8.7.3 and 10.1.
 */
import { DerError, der, MAXIMUM_DER_BYTES } from './der.ts';

const CONSTRUCTED = 0x20;
const OCTET_STRING = 0x04;
const INDEFINITE = 0x80;
const DEEPEST = 32;

interface Element {
  readonly bytes: Buffer;
  /** Of an octet string, for the one that it is a piece of. */
  readonly content: Buffer;
  /** Where the next one begins. */
  readonly end: number;
}

/** @param bytes untrusted, at most 64 KiB. @throws DerError */
export function derFromBer(bytes: Uint8Array): Buffer {
  if (bytes.length > MAXIMUM_DER_BYTES) throw new DerError('longer than 65536 bytes');
  const source = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { bytes: written, end } = element(source, 0, 0);
  if (end !== source.length) throw new DerError('bytes after the last value');
  return written;
}

function element(source: Buffer, start: number, depth: number): Element {
  if (depth > DEEPEST) throw new DerError('nested too deeply');
  const tag = byteAt(source, start);
  if ((tag & 0x1f) === 0x1f) throw new DerError('tag number over 30');
  const { from, length } = lengthAt(source, start + 1);
  if ((tag & CONSTRUCTED) === 0) {
    if (length === undefined) throw new DerError('a plain value of indefinite length');
    const content = source.subarray(from, from + length);
    return { bytes: der(tag, content), content, end: from + length };
  }
  const { parts, end } = partsAt(source, { from, length, depth });
  const isPieces = tag === (OCTET_STRING | CONSTRUCTED);
  if (isPieces && parts.some(({ bytes }) => bytes[0] !== OCTET_STRING))
    throw new DerError('an octet string of other things');
  const content = Buffer.concat(parts.map((part) => (isPieces ? part.content : part.bytes)));
  return { bytes: der(isPieces ? OCTET_STRING : tag, content), content, end };
}

function partsAt(
  source: Buffer,
  {
    from,
    length,
    depth,
  }: { readonly from: number; readonly length: number | undefined; readonly depth: number },
): { readonly parts: Element[]; readonly end: number } {
  const parts: Element[] = [];
  let at = from;
  while (length === undefined ? !isEnd(source, at) : at < from + length) {
    const part = element(source, at, depth + 1);
    parts.push(part);
    at = part.end;
  }
  if (length === undefined) return { parts, end: at + 2 };
  if (at !== from + length) throw new DerError('a part longer than the whole');
  return { parts, end: at };
}

/** The two zero bytes behind a value of indefinite length. */
function isEnd(source: Buffer, at: number): boolean {
  return byteAt(source, at) === 0 && byteAt(source, at + 1) === 0;
}

function lengthAt(
  source: Buffer,
  at: number,
): { readonly from: number; readonly length: number | undefined } {
  const first = byteAt(source, at);
  if (first === INDEFINITE) return { from: at + 1, length: undefined };
  let [length, from] = [first, at + 1];
  if (first > INDEFINITE) {
    const digits = first - INDEFINITE;
    if (digits > 4) throw new DerError('length too large');
    length = 0;
    for (let left = digits; left > 0; left -= 1) {
      length = length * 256 + byteAt(source, from);
      from += 1;
    }
  }
  if (length > source.length - from) throw new DerError('length beyond the end');
  return { from, length };
}

function byteAt(source: Buffer, at: number): number {
  const byte = source[at];
  if (byte === undefined) throw new DerError('ends too early');
  return byte;
}
