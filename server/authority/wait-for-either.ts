import type { Clock } from '../../runtime/clock.ts';
import type { WatchedSource } from '../../runtime/watched.ts';

/**
 * Resolves at a time, or once a source has another value than the one that was seen, whichever comes first.
 * Rejects when `signal` aborts.
 * @param at undefined: never
 */
export async function waitForEither<T>(
  clock: Clock,
  at: Date | undefined,
  { source, seen }: { readonly source: WatchedSource<T>; readonly seen: T },
  signal: AbortSignal,
): Promise<void> {
  const stop = new AbortController();
  const abort = () => stop.abort(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) abort();
  const changed = async () => {
    for await (const value of source.values(stop.signal)) if (value !== seen) return;
  };
  const due = async () => {
    if (at !== undefined) await clock.waitUntil(at, stop.signal).catch(() => undefined);
  };
  try {
    await Promise.race(at === undefined ? [changed()] : [due(), changed()]);
  } finally {
    signal.removeEventListener('abort', abort);
    stop.abort();
  }
  signal.throwIfAborted();
}
