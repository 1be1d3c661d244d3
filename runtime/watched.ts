/**
 * A value that changes, and those who wait for it: SVIDs, bundles, snapshots. A reader that is slow
 * gets the newest value, never a queue of old ones.
 */
export class Watched<T> implements WatchedSource<T> {
  #value: T;
  readonly #waiting = new Set<() => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  set(value: T): void {
    this.#value = value;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }

  /** The value now, then each newer one; ends when `signal` aborts. */
  async *values(signal: AbortSignal): AsyncIterable<T> {
    while (!signal.aborted) {
      const seen = this.#value;
      yield seen;
      while (this.#value === seen && !signal.aborted) await this.#changed(signal);
    }
  }

  #changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#waiting.delete(wake);
        signal.removeEventListener('abort', wake);
        resolve();
      };
      this.#waiting.add(wake);
      signal.addEventListener('abort', wake);
      if (signal.aborted) wake();
    });
  }
}

/** The reader's side of a `Watched`. */
export interface WatchedSource<T> {
  readonly value: T;
  values(signal: AbortSignal): AsyncIterable<T>;
}
