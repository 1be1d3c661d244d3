import type { Clock } from '../runtime/clock.ts';

export interface RepeatOptions {
  readonly everySeconds: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** @param why for people */
  prove(why: string): Promise<void>;
  /** How the database is not as the last setup made it, one line each. */
  drift(): Promise<readonly string[]>;
  /** A round or a look that failed; the next one follows. */
  failed(error: unknown): void;
}

/** How soon what has drifted is tried. */
const LOOK_INTERVAL_SECONDS = 30;

/**
 * Proves now, then at each interval, and whenever the database drifts in a way that was not there at the
 * last round. Resolves when `signal` aborts.
 */
export async function repeatProof(options: RepeatOptions): Promise<void> {
  const { everySeconds, clock, signal } = options;
  const lookMs = Math.min(everySeconds, LOOK_INTERVAL_SECONDS) * 1000;
  let known: ReadonlySet<string> = new Set();
  let why = 'at the start';
  while (!signal.aborted) {
    known = await round(options, why, known);
    const dueMs = clock.monotonicMs() + everySeconds * 1000;
    why = `after ${everySeconds} s`;
    while (clock.monotonicMs() < dueMs && !signal.aborted) {
      await clock.wait(lookMs, signal).catch(() => undefined);
      const news = signal.aborted ? [] : await newDrift(options, known);
      if (news.length === 0) continue;
      why = `because the database drifted: ${news.slice(0, 3).join('; ')}`;
      break;
    }
  }
}

/** @returns what had drifted when it began */
async function round(
  { prove, drift, failed }: RepeatOptions,
  why: string,
  known: ReadonlySet<string>,
): Promise<ReadonlySet<string>> {
  let seen = known;
  try {
    seen = new Set(await drift());
    await prove(why);
  } catch (error) {
    failed(error);
  }
  return seen;
}

async function newDrift(
  { drift, failed }: RepeatOptions,
  known: ReadonlySet<string>,
): Promise<string[]> {
  try {
    return (await drift()).filter((line) => !known.has(line));
  } catch (error) {
    failed(error);
    return [];
  }
}
