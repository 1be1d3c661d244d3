/**
 * Runs tasks that belong together: as soon as one ends, the others are told to. Resolves when all have
 * ended; throws what ended them, if that was an error.
 */
export async function runTogether(
  signal: AbortSignal,
  tasks: readonly ((signal: AbortSignal) => Promise<void>)[],
): Promise<void> {
  const stop = new AbortController();
  const abort = () => stop.abort(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) abort();
  let failure: { readonly reason: unknown } | undefined;
  const run = async (task: (signal: AbortSignal) => Promise<void>) => {
    try {
      await task(stop.signal);
    } catch (reason) {
      // What a task throws because it was stopped is no failure.
      if (!stop.signal.aborted) failure = { reason };
    } finally {
      stop.abort();
    }
  };
  try {
    await Promise.all(tasks.map(run));
  } finally {
    signal.removeEventListener('abort', abort);
  }
  if (failure !== undefined) throw failure.reason;
}
