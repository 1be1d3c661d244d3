/** Messages on their way up one stream: at most `capacity` wait, then `push` does. */
export class Outbox<T> implements AsyncIterable<T> {
  readonly #capacity: number;
  readonly #messages: T[] = [];
  readonly #wake: (() => void)[] = [];
  #isClosed = false;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** Resolves once there is room and the message is in; false if the stream ended before. */
  async push(message: T): Promise<boolean> {
    while (this.#messages.length >= this.#capacity && !this.#isClosed) await this.#changed();
    if (this.#isClosed) return false;
    this.#messages.push(message);
    this.#notify();
    return true;
  }

  /** Ends the stream; what waits is dropped. */
  close(): void {
    this.#isClosed = true;
    this.#messages.length = 0;
    this.#notify();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    while (!this.#isClosed) {
      const message = this.#messages.shift();
      if (message === undefined) {
        await this.#changed();
      } else {
        this.#notify();
        yield message;
      }
    }
  }

  #changed(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake.push(resolve);
    });
  }

  #notify(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }
}
