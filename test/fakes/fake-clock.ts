import { setImmediate } from 'node:timers/promises';
import type { Clock } from '../../runtime/clock.ts';

interface Waiter {
  readonly dueMs: number;
  readonly wake: () => void;
}

const STEP_MS = 50;

/** A clock that moves when a test says so; both its clocks move together, but for `jump`. */
export class FakeClock implements Clock {
  readonly #waiters = new Set<Waiter>();
  #monotonicMs = 1000;
  #wallMs: number;

  constructor(start = new Date('2026-03-01T12:00:00Z')) {
    this.#wallMs = start.getTime();
  }

  now(): Date {
    return new Date(this.#wallMs);
  }

  monotonicMs(): number {
    return this.#monotonicMs;
  }

  /** How many wait for it. */
  get waiting(): number {
    return this.#waiters.size;
  }

  /** Moves the wall clock alone. */
  jump(milliseconds: number): void {
    this.#wallMs += milliseconds;
  }

  /** Lets that much time pass in small steps, so that loops that wait again are woken again. */
  async advance(milliseconds: number): Promise<void> {
    for (let left = milliseconds; left > 0; left -= STEP_MS) {
      const step = Math.min(left, STEP_MS);
      this.#monotonicMs += step;
      this.#wallMs += step;
      for (const waiter of [...this.#waiters]) {
        if (waiter.dueMs <= this.#monotonicMs) waiter.wake();
      }
      await setImmediate();
    }
  }

  waitUntil(at: Date, signal: AbortSignal): Promise<void> {
    return this.wait(at.getTime() - this.#wallMs, signal);
  }

  wait(milliseconds: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = (settle: () => void) => {
        this.#waiters.delete(waiter);
        signal.removeEventListener('abort', abort);
        settle();
      };
      const abort = () => done(() => reject(signal.reason));
      const dueMs = this.#monotonicMs + milliseconds;
      const waiter = { dueMs, wake: () => done(resolve) };
      this.#waiters.add(waiter);
      signal.addEventListener('abort', abort, { once: true });
      if (signal.aborted) abort();
    });
  }
}
