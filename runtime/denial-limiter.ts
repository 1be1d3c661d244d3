import type { Clock } from './clock.ts';

const WINDOW_MS = 60_000;
const MAXIMUM_KEYS = 10_000;

/**
 * Lets one event, or line, of a kind through each minute: who is refused in a loop must not fill the audit
 * log, or the disk.
 */
export class DenialLimiter {
  readonly #clock: Clock;
  /** When the key was last let through, oldest first. */
  readonly #passed = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether an event of this key is due; if so, counts it as written. */
  admit(...key: readonly string[]): boolean {
    const now = this.#clock.monotonicMs();
    const text = JSON.stringify(key);
    const last = this.#passed.get(text);
    if (last !== undefined && now - last < WINDOW_MS) return false;
    this.#passed.delete(text);
    this.#passed.set(text, now);
    this.#forget(now);
    return true;
  }

  #forget(now: number): void {
    for (const [key, at] of this.#passed) {
      if (now - at < WINDOW_MS && this.#passed.size <= MAXIMUM_KEYS) return;
      this.#passed.delete(key);
    }
  }
}
