import { systemClock } from '../../runtime/clock.ts';

const GAUGE = /^writ_server_event_loop_delay_max_seconds\{window="1s"\} (\S+)$/m;
/** Less than the metric's window, so that none is missed. */
const LOOK_MS = 400;
const WINDOW_MS = 1000;

/**
 * The longest that a server's event loop was blocked while `work` ran, as its own metric tells.
 * @param health `host:port` of its health endpoint
 */
export async function longestBlockMs(
  health: string,
  work: () => Promise<unknown>,
): Promise<number> {
  const stop = new AbortController();
  let longest = 0;
  const look = async () => {
    const answer = await fetch(`http://${health}/metrics`);
    const seconds = Number(GAUGE.exec(await answer.text())?.[1]);
    if (Number.isNaN(seconds)) throw new Error('the server does not tell how long its loop waits');
    longest = Math.max(longest, seconds * 1000);
  };
  const looking = async () => {
    // What was before is out of the window.
    await systemClock.wait(WINDOW_MS, stop.signal).catch(() => undefined);
    while (!stop.signal.aborted) {
      await look();
      await systemClock.wait(LOOK_MS, stop.signal).catch(() => undefined);
    }
  };
  const watched = looking();
  try {
    await work();
    // The last second is told of at its end.
    await systemClock.wait(WINDOW_MS + LOOK_MS, stop.signal);
  } finally {
    stop.abort();
  }
  await watched;
  return longest;
}
