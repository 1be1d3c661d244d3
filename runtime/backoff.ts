/**
 * How long to wait before the next attempt: a random part of a span that doubles with each failure,
 * so that many who failed together do not come back together.
 */
export class Backoff {
  readonly #firstMs: number;
  readonly #maximumMs: number;
  readonly #random: () => number;
  #spanMs: number;

  /** @param random from 0 to below 1; tests pass their own */
  constructor(
    options: { readonly firstMs: number; readonly maximumMs: number },
    random: () => number = Math.random,
  ) {
    this.#firstMs = options.firstMs;
    this.#maximumMs = options.maximumMs;
    this.#random = random;
    this.#spanMs = options.firstMs;
  }

  /** Milliseconds, from 1 up to the span, which then doubles up to the maximum. */
  next(): number {
    const spanMs = Math.min(this.#spanMs, this.#maximumMs);
    this.#spanMs = Math.min(spanMs * 2, this.#maximumMs);
    return 1 + Math.floor(this.#random() * spanMs);
  }

  /** After a success: the next span is the first again. */
  reset(): void {
    this.#spanMs = this.#firstMs;
  }
}
