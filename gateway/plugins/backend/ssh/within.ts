import type { Clock } from '../../../../runtime/clock.ts';

/** Waits for `done`, however it ends, but no longer than that. */
export async function within(
  milliseconds: number,
  done: Promise<unknown>,
  clock: Clock,
): Promise<void> {
  const over = new AbortController();
  const late = clock.wait(milliseconds, over.signal).catch(() => undefined);
  await Promise.race([done.catch(() => undefined), late]);
  over.abort();
}
