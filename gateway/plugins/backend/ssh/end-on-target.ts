import type { Clock } from '../../../../runtime/clock.ts';
import type { ClientChannel } from './ssh2-client.ts';

/** How long what runs on a target has for each of the two signals. */
const HANG_UP_MS = 100;
const KILL_MS = 100;

/**
 * Ends what a channel still runs on the target: sshd kills nothing when a connection goes, so it is told
 * to, by HUP and then KILL to the program's process group. At an end already nothing is sent.
 */
export async function endOnTarget(
  target: Pick<ClientChannel, 'exit' | 'signal' | 'close'>,
  clock: Clock,
): Promise<void> {
  const exited = new AbortController();
  void target.exit.then(() => exited.abort());
  // A program that has exited, but whose channel is not closed, is told here.
  await Promise.resolve();
  for (const [signal, milliseconds] of [
    ['HUP', HANG_UP_MS],
    ['KILL', KILL_MS],
  ] as const) {
    if (exited.signal.aborted) break;
    target.signal(signal);
    await clock.wait(milliseconds, exited.signal).catch(() => undefined);
  }
  target.close();
}
