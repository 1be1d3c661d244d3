import { Fault } from '../../runtime/fault.ts';

/** Bounds the streams of one caller: each costs memory for as long as its caller likes. */
export class StreamLimit {
  readonly #maximum: number;
  readonly #counts = new Map<string, number>();

  constructor(maximum: number) {
    this.#maximum = maximum;
  }

  /**
   * The same stream, counted until it ends.
   * @param key who calls; as many keys are kept as callers have streams
   * @throws Fault RESOURCE_EXHAUSTED with its first message if there are too many
   */
  async *hold<T>(key: string, open: () => AsyncIterable<T>): AsyncGenerator<T> {
    const count = this.#counts.get(key) ?? 0;
    if (count >= this.#maximum)
      throw new Fault('RESOURCE_EXHAUSTED', `more than ${this.#maximum} streams of one caller`);
    this.#counts.set(key, count + 1);
    try {
      yield* open();
    } finally {
      const left = (this.#counts.get(key) ?? 0) - 1;
      if (left > 0) this.#counts.set(key, left);
      else this.#counts.delete(key);
    }
  }
}
