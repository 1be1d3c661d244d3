/**
 * Files that only grow: a run of frames, each a length (u32, big-endian), the payload's CRC-32 (u32)
 * and the payload. No frame is empty, so that a tail of zero bytes is none.
 *
 * What a crash leaves is a last frame that is not whole: the torn tail, which is dropped when the
 * file is opened again. A frame that does not fit its checksum while others follow is no crash but
 * damage, and nothing is dropped: reading throws.
 */
import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  constants as openFlags,
  openSync,
  readSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { Fault } from './fault.ts';

const HEADER_BYTES = 8;
const DEFAULT_MAXIMUM_FRAME_BYTES = 64 * 1024 * 1024;

/** Where the whole frames of a file end, and how many bytes of a torn one follow. */
export interface FrameEnd {
  readonly wholeBytes: number;
  readonly tornBytes: number;
}

export interface FrameLimits {
  /** Of one payload; 64 MiB unless told. */
  readonly maximumFrameBytes?: number;
}

/** Bytes at an offset; fewer than asked for at the end. */
type ReadAt = (offset: number, length: number) => Buffer;

/**
 * The payloads, in order; the generator's return value tells of the end.
 * @param source a file's path, or its content
 * @throws Fault STATE_UNUSABLE if the file is damaged elsewhere than at its end
 */
export function* readFrames(
  source: string | Uint8Array,
  limits: FrameLimits = {},
): Generator<Uint8Array, FrameEnd> {
  if (typeof source !== 'string') {
    const bytes = Buffer.from(source.buffer, source.byteOffset, source.byteLength);
    const readAt: ReadAt = (offset, length) => bytes.subarray(offset, offset + length);
    return yield* framesOf(readAt, bytes.length, limits);
  }
  const fd = openSync(source, 'r');
  try {
    return yield* framesOf(readerOf(fd), fstatSync(fd).size, limits);
  } finally {
    closeSync(fd);
  }
}

function* framesOf(
  readAt: ReadAt,
  size: number,
  { maximumFrameBytes = DEFAULT_MAXIMUM_FRAME_BYTES }: FrameLimits,
): Generator<Uint8Array, FrameEnd> {
  let offset = 0;
  while (size - offset >= HEADER_BYTES) {
    const header = readAt(offset, HEADER_BYTES);
    const length = header.readUInt32BE(0);
    if (length === 0 && isZero(readAt, offset, size)) break;
    if (length === 0 || length > maximumFrameBytes) throw damaged(offset);
    const end = offset + HEADER_BYTES + length;
    if (end > size) break;
    const payload = readAt(offset + HEADER_BYTES, length);
    if (crc32(payload) !== header.readUInt32BE(4)) {
      if (end < size) throw damaged(offset);
      break;
    }
    yield payload;
    offset = end;
  }
  return { wholeBytes: offset, tornBytes: size - offset };
}

/** A power cut can leave a file's new length without its new bytes. */
function isZero(readAt: ReadAt, offset: number, size: number): boolean {
  for (let at = offset; at < size; at += 65_536) {
    if (readAt(at, Math.min(65_536, size - at)).some((byte) => byte !== 0)) return false;
  }
  return true;
}

function readerOf(fd: number): ReadAt {
  return (offset, length) => {
    const bytes = Buffer.alloc(length);
    let read = 0;
    while (read < length) {
      const count = readSync(fd, bytes, read, length - read, offset + read);
      if (count === 0) break;
      read += count;
    }
    return bytes.subarray(0, read);
  };
}

function damaged(offset: number): Fault {
  return new Fault('STATE_UNUSABLE', `the file is damaged at byte ${offset}`);
}

/** Appends frames to a file. Its calls are synchronous: what returned has reached the file. */
export class FrameWriter {
  /** Bytes of a torn frame that opening has dropped. */
  readonly tornBytes: number;
  readonly #fd: number;
  readonly #maximumFrameBytes: number;
  #size: number;
  #broken = false;
  #closed = false;

  private constructor(fd: number, end: FrameEnd, limits: FrameLimits) {
    this.#fd = fd;
    this.#size = end.wholeBytes;
    this.tornBytes = end.tornBytes;
    this.#maximumFrameBytes = limits.maximumFrameBytes ?? DEFAULT_MAXIMUM_FRAME_BYTES;
  }

  /**
   * Opens a file, or makes it with mode 0600, and drops a torn tail.
   * @throws Fault STATE_UNUSABLE if the file is damaged elsewhere than at its end
   */
  static open(path: string, limits: FrameLimits = {}): FrameWriter {
    const fd = openSync(path, openFlags.O_RDWR | openFlags.O_CREAT, 0o600);
    try {
      const frames = framesOf(readerOf(fd), fstatSync(fd).size, limits);
      let next = frames.next();
      while (next.done !== true) next = frames.next();
      if (next.value.tornBytes > 0) ftruncateSync(fd, next.value.wholeBytes);
      fsyncSync(fd);
      syncDirectory(dirname(path));
      return new FrameWriter(fd, next.value, limits);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** The file's length. */
  get bytesWritten(): number {
    return this.#size;
  }

  /**
   * Hands frames to the operating system in one write. After it has thrown, so does every later call.
   * @param payloads each of 1 byte up to the maximum
   */
  append(...payloads: readonly Uint8Array[]): void {
    if (this.#broken) throw new Error('an earlier write has failed');
    let length = 0;
    for (const payload of payloads) {
      if (payload.length === 0 || payload.length > this.#maximumFrameBytes) {
        throw new RangeError(`a frame of ${payload.length} bytes`);
      }
      length += HEADER_BYTES + payload.length;
    }
    const frames = Buffer.allocUnsafe(length);
    let at = 0;
    for (const payload of payloads) {
      frames.writeUInt32BE(payload.length, at);
      frames.writeUInt32BE(crc32(payload), at + 4);
      frames.set(payload, at + HEADER_BYTES);
      at += HEADER_BYTES + payload.length;
    }
    this.#attempt(() => {
      let written = 0;
      while (written < length) {
        written += writeSync(this.#fd, frames, written, length - written, this.#size + written);
      }
    });
    this.#size += length;
  }

  /** Returns when every frame so far would outlive a power cut. After it has thrown, none may be added. */
  sync(): void {
    this.#attempt(() => fsyncSync(this.#fd));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#broken = true;
    closeSync(this.#fd);
  }

  /** A failed fsync may have lost what it should have kept, so there is no trying again. */
  #attempt(write: () => void): void {
    if (this.#broken) throw new Error('an earlier write has failed');
    try {
      write();
    } catch (error) {
      this.#broken = true;
      throw error;
    }
  }
}

function syncDirectory(directory: string): void {
  const fd = openSync(directory, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
