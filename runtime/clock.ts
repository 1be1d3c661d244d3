import { setTimeout as sleep } from 'node:timers/promises';

/** Where time is read and waited for; tests pass their own. */
export interface Clock {
  /** Wall clock: for certificates, records and what people see. It can jump. */
  now(): Date;

  /** Milliseconds that never run back: for deadlines and measuring. */
  monotonicMs(): number;

  /**
   * Resolves when the wall clock reaches `at`, however far off: it looks again at least each second,
   * so neither a jump nor `setTimeout`'s limit of 24.8 days moves it. Rejects when `signal` aborts.
   */
  waitUntil(at: Date, signal: AbortSignal): Promise<void>;

  /** Resolves after that many milliseconds of monotonic time. Rejects when `signal` aborts. */
  wait(milliseconds: number, signal: AbortSignal): Promise<void>;
}

const LONGEST_LOOK_MS = 1000;

export const systemClock: Clock = {
  now: () => new Date(),
  monotonicMs: () => performance.now(),
  async waitUntil(at, signal) {
    for (;;) {
      const left = at.getTime() - Date.now();
      if (left <= 0) return;
      await sleep(Math.min(left, LONGEST_LOOK_MS), undefined, { signal });
    }
  },
  async wait(milliseconds, signal) {
    const end = performance.now() + milliseconds;
    for (let left = milliseconds; left > 0; left = end - performance.now()) {
      await sleep(Math.min(left, LONGEST_LOOK_MS), undefined, { signal });
    }
  },
};
