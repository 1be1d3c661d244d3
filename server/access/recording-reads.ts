import type { RecordingChunk } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';

/** How long a gateway may keep a reader waiting for the next chunk. */
const SILENCE_MS = 10_000;
const MAXIMUM_CHUNK_BYTES = 64 * 1024;
/** Largest record that is read. */
const MAXIMUM_BYTES = 256 * 1024 * 1024;
/** Each may hold a whole record in memory while its reader is slow. */
const MAXIMUM_READS = 2;

interface Read {
  readonly chunks: Uint8Array[];
  bytes: number;
  end: Fault | 'complete' | undefined;
  wake: () => void;
}

export interface RecordingReadsOptions {
  readonly clock: Clock;
  /** Asks the gateway for a record. */
  ask(request: { requestId: bigint; sessionId: string }): void;
}

/** Records that are being read from one gateway, by the number of the request. */
export class RecordingReads {
  readonly #options: RecordingReadsOptions;
  readonly #reads = new Map<bigint, Read>();
  #lastId = 0n;

  constructor(options: RecordingReadsOptions) {
    this.#options = options;
  }

  /**
   * The bytes of a session's record files in order, untrusted.
   * @throws Fault NOT_FOUND if the gateway has none, UNAVAILABLE if it is silent for 10 s or goes,
   * RESOURCE_EXHAUSTED above 256 MiB or when two are read already
   */
  async *read(sessionId: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    if (this.#reads.size >= MAXIMUM_READS) {
      throw new Fault('RESOURCE_EXHAUSTED', 'two recordings are read from this gateway already');
    }
    const requestId = ++this.#lastId;
    const read: Read = { chunks: [], bytes: 0, end: undefined, wake: () => undefined };
    this.#reads.set(requestId, read);
    try {
      this.#options.ask({ requestId, sessionId });
      for (;;) {
        yield* read.chunks.splice(0);
        if (read.end instanceof Fault) throw read.end;
        if (read.chunks.length > 0) continue;
        if (read.end === 'complete') return;
        await this.#news(read, signal);
      }
    } finally {
      this.#reads.delete(requestId);
    }
  }

  /** Takes an answer; what nobody reads any more is dropped. */
  deliver(chunk: RecordingChunk): void {
    const read = this.#reads.get(chunk.requestId);
    if (read === undefined || read.end !== undefined) return;
    read.bytes += chunk.data.length;
    if (chunk.error !== '') {
      read.end = new Fault('NOT_FOUND', 'the gateway has no record of this session', {
        cause: chunk.error,
      });
    } else if (chunk.data.length > MAXIMUM_CHUNK_BYTES || read.bytes > MAXIMUM_BYTES) {
      read.end = new Fault('RESOURCE_EXHAUSTED', 'the record is larger than 256 MiB');
    } else {
      read.chunks.push(chunk.data);
      if (chunk.last) read.end = 'complete';
    }
    read.wake();
  }

  /** Ends all reads: the gateway has gone. */
  end(): void {
    for (const read of this.#reads.values()) {
      read.end ??= new Fault('UNAVAILABLE', 'the gateway has gone while its record was read');
      read.wake();
    }
  }

  /** Resolves when something came for `read`. */
  async #news(read: Read, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const waiting = new AbortController();
    const wake = () => waiting.abort();
    read.wake = wake;
    signal.addEventListener('abort', wake, { once: true });
    try {
      await this.#options.clock.wait(SILENCE_MS, waiting.signal);
    } catch (error) {
      signal.throwIfAborted();
      if (waiting.signal.aborted) return;
      throw error;
    } finally {
      signal.removeEventListener('abort', wake);
    }
    throw new Fault('UNAVAILABLE', 'the gateway did not answer within 10 s');
  }
}
