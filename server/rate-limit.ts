import type { Clock } from '../runtime/clock.ts';
import { Fault } from '../runtime/fault.ts';

/** Longest that a call waits for its turn: agents give theirs up sooner. */
const MOST_WAIT_MS = 60_000;
const MOST_ADDRESSES = 10_000;

export interface RateLimitOptions {
  /** Refill, and the most that a client who was idle can take at once. */
  readonly perSecond: number;
  readonly clock: Clock;
}

/**
 * A token bucket for each client: who is too fast waits its turn, and is refused only when its turn is
 * too far off. Source: SPIRE's limits (facts: "Rate limits"), which wait as well.
 */
export class RateLimit {
  readonly #options: RateLimitOptions;
  /** When the bucket of a client is full again; one that is full is forgotten. */
  readonly #fullAtMs = new Map<string, number>();

  constructor(options: RateLimitOptions) {
    this.#options = options;
  }

  /** How many clients are remembered. */
  get size(): number {
    return this.#fullAtMs.size;
  }

  /**
   * Resolves when `client` may go on.
   * @param count how much of the limit it takes; more than a second's worth is refused
   * @param patience how long the caller waits; who would wait in vain is refused at once
   * @throws Fault RESOURCE_EXHAUSTED; the signal's reason if that aborts first
   */
  async take(
    client: string,
    count: number,
    signal: AbortSignal,
    { withinMs = MOST_WAIT_MS }: { readonly withinMs?: number | undefined } = {},
  ): Promise<void> {
    const { perSecond, clock } = this.#options;
    if (count > perSecond)
      throw new Fault('RESOURCE_EXHAUSTED', `rate (${count}) exceeds burst size (${perSecond})`);
    const now = clock.monotonicMs();
    this.#forget(now);
    const costMs = (count * 1000) / perSecond;
    const fullAt = Math.max(this.#fullAtMs.get(client) ?? now, now) + costMs;
    const waitMs = fullAt - 1000 - now;
    if (
      waitMs > Math.min(withinMs, MOST_WAIT_MS) ||
      (!this.#fullAtMs.has(client) && this.size >= MOST_ADDRESSES)
    )
      throw new Fault('RESOURCE_EXHAUSTED', 'too many calls from this address: try again later');
    this.#fullAtMs.set(client, fullAt);
    if (waitMs <= 0) return;
    try {
      await clock.wait(waitMs, signal);
    } catch (error) {
      this.#fullAtMs.set(client, (this.#fullAtMs.get(client) ?? fullAt) - costMs);
      throw error;
    }
  }

  #forget(now: number): void {
    if (this.size < MOST_ADDRESSES) return;
    for (const [client, fullAt] of this.#fullAtMs) if (fullAt <= now) this.#fullAtMs.delete(client);
  }
}
