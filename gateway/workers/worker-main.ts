/** The program of a worker process. It lives as its primary says, and no longer than its primary. */
import type { ToPrimary, ToWorker } from './messages.ts';
import { serveAsWorker } from './serve-as-worker.ts';

// A signal to the whole group is the primary's to obey.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
process.on('disconnect', () => process.exit(1));

await main();

async function main(): Promise<void> {
  let last = Promise.resolve();
  const port = {
    // Without a channel the process is about to end.
    send(message: ToPrimary) {
      last = new Promise((resolve) => {
        process.send?.(message, undefined, undefined, () => resolve());
      });
    },
    receive(handle: (message: ToWorker) => void) {
      process.on('message', (message) => handle(message as ToWorker));
    },
  };
  let status = 0;
  try {
    await serveAsWorker(port, () => process.exit(1));
  } catch {
    // The primary has been told.
    status = 1;
  }
  await last;
  process.exit(status);
}
