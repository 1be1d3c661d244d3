import { mkdirSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { RecordingKey } from './gateway-keys.ts';
import { type RecordingObserver, SessionRecording } from './session-recording.ts';

const CHUNK_BYTES = 64 * 1024;
const SESSION_ID = /^[A-Za-z0-9_-]{1,64}$/;

/** The recordings that lie in this gateway: `<directory>/<session>/<n>.seg`. */
export class Recordings {
  readonly #directory: string;
  readonly #key: RecordingKey;
  readonly #clock: Clock;

  constructor(options: {
    /** Created if it is missing. */
    readonly directory: string;
    readonly key: RecordingKey;
    readonly clock: Clock;
  }) {
    this.#directory = options.directory;
    this.#key = options.key;
    this.#clock = options.clock;
    mkdirSync(options.directory, { recursive: true, mode: 0o700 });
  }

  /** The raw public key that all recordings of this gateway are signed by. */
  get publicKey(): Uint8Array {
    return this.#key.publicKey;
  }

  /** @throws Fault RECORDING_UNWRITABLE */
  open(sessionId: string, observer: RecordingObserver): SessionRecording {
    if (!SESSION_ID.test(sessionId)) {
      throw new Fault('RECORDING_UNWRITABLE', 'the session cannot be recorded');
    }
    const directory = join(this.#directory, sessionId);
    return SessionRecording.open({
      directory,
      sessionId,
      key: this.#key,
      clock: this.#clock,
      observer,
    });
  }

  /**
   * The bytes of a session's segments in order, at most 64 KiB at a time; of a live one what is there now.
   * @throws Fault NOT_FOUND
   */
  async *read(sessionId: string): AsyncGenerator<Uint8Array> {
    for (let number = 0; ; number += 1) {
      const file = await this.#openSegment(sessionId, number);
      if (file === undefined) {
        if (number === 0) throw new Fault('NOT_FOUND', 'this gateway has no such recording');
        return;
      }
      try {
        yield* chunksOf(file);
      } finally {
        await file.close();
      }
    }
  }

  async #openSegment(sessionId: string, number: number): Promise<FileHandle | undefined> {
    if (!SESSION_ID.test(sessionId)) return undefined;
    try {
      return await open(join(this.#directory, sessionId, `${number}.seg`), 'r');
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
      throw error;
    }
  }
}

async function* chunksOf(file: FileHandle): AsyncGenerator<Uint8Array> {
  for (;;) {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(CHUNK_BYTES), 0, CHUNK_BYTES);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
  }
}
