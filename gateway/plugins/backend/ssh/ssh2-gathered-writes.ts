import type { Writable } from 'node:stream';

/**
 * Writes to a stream what comes in one turn of the event loop as one piece: ssh2 hands out a packet in
 * three, and each piece that waits for a peer that does not read costs a kilobyte, however small it is.
 */
export class GatheredWrites {
  readonly #stream: Writable;
  readonly #flushed: () => void;
  #pieces: Uint8Array[] = [];
  #bytes = 0;

  /** @param flushed called when what was gathered is with the stream */
  constructor(stream: Writable, flushed: () => void) {
    this.#stream = stream;
    this.#flushed = flushed;
  }

  /** Bytes that wait, here and in the stream. */
  get length(): number {
    return this.#bytes + this.#stream.writableLength;
  }

  /** Whether so much waits; then `flushed` or the stream's `drain` tells when it is less. */
  isFull(most: number): boolean {
    // Without writableNeedDrain there would be no `drain`.
    return this.#bytes >= most || (this.#stream.writableNeedDrain && this.length >= most);
  }

  write(piece: Uint8Array): void {
    if (this.#pieces.length === 0) process.nextTick(() => this.flush());
    this.#pieces.push(piece);
    this.#bytes += piece.length;
  }

  flush(): void {
    const bytes = Buffer.concat(this.#pieces);
    this.#pieces = [];
    this.#bytes = 0;
    if (bytes.length > 0 && this.#stream.writable) this.#stream.write(bytes);
    this.#flushed();
  }
}
