/**
 * One file of a recording: a head that names the segment before it, events, and a seal. Its hash runs
 * over the frames' lengths and bytes as they are written, so that a seal costs no reading.
 */
import { createHash, sign } from 'node:crypto';
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { RecordedFrameSchema } from '../../proto/gen/writ/gateway/v1/recording_pb.ts';
import { FrameWriter } from '../../runtime/frame-file.ts';
import type { RecordingKey } from './gateway-keys.ts';

/** No file of a recording is longer. */
export const MAXIMUM_SEGMENT_BYTES = 8 * 1024 * 1024;

/** What a head, a seal and the framing of both may take at most. */
const RESERVED_BYTES = 4096;
const FRAME_OVERHEAD_BYTES = 8;

/** What fits into an empty segment. */
export const MAXIMUM_EVENT_BYTES = MAXIMUM_SEGMENT_BYTES - 2 * RESERVED_BYTES;

/** Small frames are hashed together: each call of the hash costs more than their bytes. */
const HASHED_AT_ONCE = 4096;
const LENGTH_BYTES = 4;

const SIGNED_CONTEXT = Buffer.from('writ-recording-v1', 'ascii');

/** The previous hash in a recording's first segment. */
export const NO_HASH = new Uint8Array(32);

export interface SegmentOptions {
  readonly path: string;
  readonly sessionId: string;
  /** From 0. */
  readonly number: number;
  readonly previousHash: Uint8Array;
  readonly key: RecordingKey;
}

export class Segment {
  readonly number: number;
  readonly #file: FrameWriter;
  readonly #key: RecordingKey;
  readonly #hash = createHash('sha256');
  /** Lengths and bytes of frames that the hash has still to take in. */
  readonly #unhashed = Buffer.allocUnsafeSlow(HASHED_AT_ONCE);
  #unhashedBytes = 0;

  constructor({ path, sessionId, number, previousHash, key }: SegmentOptions) {
    this.number = number;
    this.#key = key;
    this.#file = FrameWriter.open(path, { maximumFrameBytes: MAXIMUM_SEGMENT_BYTES });
    const head = { sessionId, segment: number, previousHash, keyId: key.keyId };
    this.append(encodeFrame({ case: 'head', value: head }));
  }

  /** Whether these frames still leave room for the seal. */
  hasRoomFor(frames: readonly Uint8Array[]): boolean {
    let end = this.#file.bytesWritten;
    for (const frame of frames) end += FRAME_OVERHEAD_BYTES + frame.length;
    return end <= MAXIMUM_SEGMENT_BYTES - RESERVED_BYTES;
  }

  append(...frames: readonly Uint8Array[]): void {
    this.#file.append(...frames);
    for (const frame of frames) this.#hashSoon(frame);
  }

  sync(): void {
    this.#file.sync();
  }

  /** Writes the seal, makes the file durable and closes it. @returns the hash that was signed */
  seal(): Uint8Array {
    this.#hashNow();
    const hash = this.#hash.digest();
    const signature = sign(null, Buffer.concat([SIGNED_CONTEXT, hash]), this.#key.privateKey);
    this.#file.append(encodeFrame({ case: 'seal', value: { hash, signature } }));
    this.#file.sync();
    this.#file.close();
    return hash;
  }

  #hashSoon(frame: Uint8Array): void {
    const size = LENGTH_BYTES + frame.length;
    if (this.#unhashedBytes + size > HASHED_AT_ONCE) this.#hashNow();
    this.#unhashedBytes = this.#unhashed.writeUInt32BE(frame.length, this.#unhashedBytes);
    if (size > HASHED_AT_ONCE) {
      this.#hashNow();
      this.#hash.update(frame);
      return;
    }
    this.#unhashed.set(frame, this.#unhashedBytes);
    this.#unhashedBytes += frame.length;
  }

  #hashNow(): void {
    this.#hash.update(this.#unhashed.subarray(0, this.#unhashedBytes));
    this.#unhashedBytes = 0;
  }

  /** Closes the file as it is, without a seal. */
  abandon(): void {
    this.#file.close();
  }
}

type FrameInit = NonNullable<MessageInitShape<typeof RecordedFrameSchema>['frame']>;

export function encodeFrame(frame: FrameInit): Uint8Array {
  return toBinary(RecordedFrameSchema, create(RecordedFrameSchema, { frame }));
}
