import type { Clock } from '../runtime/clock.ts';
import { Fault } from '../runtime/fault.ts';
import type { Logger } from '../runtime/log.ts';
import type { Datastore } from './plugins/datastore/datastore.ts';

const TOLERANCE_MS = 5 * 60 * 1000;
const INTERVAL_MS = 10_000;

export interface ClockGuardOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Remembers the highest time seen, so that a server whose clock was set back does not bring what has
 * expired or was revoked to life again.
 */
export class ClockGuard implements AsyncDisposable {
  readonly #options: ClockGuardOptions;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  private constructor(options: ClockGuardOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  /** @throws Fault STATE_UNUSABLE if the clock is more than five minutes behind the highest time seen */
  static async open(options: ClockGuardOptions): Promise<ClockGuard> {
    const highest = await highestMs(options.store);
    if (options.clock.now().getTime() < highest - TOLERANCE_MS) {
      const seen = new Date(highest).toISOString();
      throw new Fault(
        'STATE_UNUSABLE',
        `the clock says ${options.clock.now().toISOString()}, but this server has already run at ${seen}: set the clock right`,
      );
    }
    await remember(options);
    return new ClockGuard(options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort();
    await this.#running;
    await remember(this.#options);
  }

  async #run(): Promise<void> {
    const { clock, log } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        await clock.wait(INTERVAL_MS, signal);
        await remember(this.#options);
      } catch (error) {
        if (!signal.aborted) log.error({ err: error }, 'highest time seen could not be kept');
      }
    }
  }
}

async function highestMs(store: Datastore): Promise<number> {
  const row = await store.get(`select value from meta where key = 'highest_time_ms'`);
  return Number(row?.value ?? 0);
}

async function remember({ store, clock }: ClockGuardOptions): Promise<void> {
  const highest = Math.max(clock.now().getTime(), await highestMs(store));
  await store.transaction((tx) =>
    tx.run(
      `insert into meta (key, value) values ('highest_time_ms', ?)
       on conflict (key) do update set value = excluded.value`,
      String(highest),
    ),
  );
}
