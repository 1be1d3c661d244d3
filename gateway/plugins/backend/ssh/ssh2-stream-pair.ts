import { Duplex } from 'node:stream';

/** Two ends of a connection within the process: what is written to one is read from the other. */
export function streamPair(): [Duplex, Duplex] {
  const [one, other] = [new End(), new End()];
  one.peer = other;
  other.peer = one;
  return [one.stream, other.stream];
}

class End {
  peer: End | undefined;
  readonly stream: Duplex;
  #taken: (() => void) | undefined;
  #isEnded = false;

  constructor() {
    this.stream = new Duplex({
      read: () => this.#takeOn(),
      // As on a wire, the writer goes on before the reader gets it: a reader that answers at once by an
      // end would otherwise end a stream amid its own write.
      write: (bytes: Buffer, _, done) => {
        process.nextTick(() => this.peer?.push(bytes, done));
      },
      final: (done) => {
        this.peer?.push(null, () => undefined);
        done();
      },
      destroy: (error, done) => {
        this.#takeOn();
        this.peer?.push(null, () => undefined);
        done(error);
      },
    });
  }

  push(bytes: Buffer | null, taken: () => void): void {
    // What a peer wrote just before it was destroyed comes after its end.
    if (this.stream.destroyed || this.#isEnded) {
      taken();
      return;
    }
    this.#isEnded = bytes === null;
    if (this.stream.push(bytes)) taken();
    else this.#taken = taken;
  }

  #takeOn(): void {
    const taken = this.#taken;
    this.#taken = undefined;
    taken?.();
  }
}
