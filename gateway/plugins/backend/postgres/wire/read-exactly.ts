import type { Readable } from 'node:stream';

const WAKING = ['readable', 'end', 'close', 'error'] as const;

/**
 * Takes exactly `length` bytes from a stream that nobody reads in flowing mode, and leaves the rest.
 *
 * The listener for `readable` is added once: adding it anew while too few bytes are there makes Node
 * emit at once and for ever, and a peer that sends one byte less would stop the process.
 * @returns undefined if the stream ends or fails before
 * @throws the signal's reason when it aborts
 */
export function readExactly(
  stream: Readable,
  length: number,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    const finish = () => {
      for (const event of WAKING) stream.removeListener(event, attempt);
      signal.removeEventListener('abort', attempt);
    };
    const attempt = () => {
      if (signal.aborted) {
        finish();
        reject(signal.reason);
        return;
      }
      const bytes: Buffer | null = stream.read(length);
      if (bytes === null && !stream.readableEnded && !stream.destroyed) return;
      finish();
      resolve(bytes?.length === length ? bytes : undefined);
    };
    for (const event of WAKING) stream.on(event, attempt);
    signal.addEventListener('abort', attempt);
    attempt();
  });
}
