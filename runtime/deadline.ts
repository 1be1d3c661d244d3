import type { Clock } from './clock.ts';

/**
 * An instant that both clocks watch: it has come when either says so. A wall clock that is set back puts nothing
 * off, and a machine that slept is not late.
 */
export interface Deadline {
  readonly at: Date;
  /** Of the monotonic clock. */
  readonly monotonicMs: number;
}

export function deadlineAt(at: Date, clock: Clock): Deadline {
  return { at, monotonicMs: clock.monotonicMs() + at.getTime() - clock.now().getTime() };
}

/** Milliseconds that are left; 0 or less once it has come. */
export function msUntil({ at, monotonicMs }: Deadline, clock: Clock): number {
  return Math.min(at.getTime() - clock.now().getTime(), monotonicMs - clock.monotonicMs());
}

/** Resolves when it has come. Rejects when `signal` aborts. */
export async function untilDeadline(
  deadline: Deadline,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const stop = new AbortController();
  const abort = () => stop.abort(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) abort();
  try {
    const left = Math.max(0, deadline.monotonicMs - clock.monotonicMs());
    await Promise.race([clock.waitUntil(deadline.at, stop.signal), clock.wait(left, stop.signal)]);
  } finally {
    signal.removeEventListener('abort', abort);
    stop.abort();
  }
}
