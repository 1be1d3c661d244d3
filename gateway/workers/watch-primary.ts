import type { Clock } from '../../runtime/clock.ts';

export interface WatchPrimaryOptions {
  /** Rises with every message of the primary's. */
  readonly primary: { readonly heard: number };
  readonly clock: Clock;
  /** Called at each look, once the primary has been silent for 15 s. */
  onSilence(): void;
}

const MOST_SILENT_LOOKS = 15;
const LOOK_MS = 1000;

/**
 * Watches until `signal` aborts: a primary that says nothing ends no session either, so nothing may be
 * served then. Looks are counted and not time, for on a machine that slept the primary slept too.
 */
export async function watchPrimary(
  { primary, clock, onSilence }: WatchPrimaryOptions,
  signal: AbortSignal,
): Promise<void> {
  let { heard } = primary;
  let silent = 0;
  while (!signal.aborted) {
    await clock.wait(LOOK_MS, signal).catch(() => undefined);
    silent = primary.heard === heard ? silent + 1 : 0;
    heard = primary.heard;
    if (silent >= MOST_SILENT_LOOKS && !signal.aborted) onSilence();
  }
}
