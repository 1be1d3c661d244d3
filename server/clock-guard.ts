import type { Clock } from '../runtime/clock.ts';
import { Fault } from '../runtime/fault.ts';
import type { Logger } from '../runtime/log.ts';
import type { Datastore, Reader } from './plugins/datastore/datastore.ts';

const TOLERANCE_MS = 5 * 60 * 1000;
const INTERVAL_MS = 10_000;
/** Clocks are set right by less than this all the time. */
const UNTOLD_MS = 5000;

export interface ClockGuardOptions {
  readonly store: Datastore;
  /** The host's. */
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Remembers the highest time seen, so that a server whose clock was set back does not bring what has
 * expired or was revoked to life again: revocations are told from later SVIDs by their time.
 */
export class ClockGuard implements AsyncDisposable {
  /** The host's clock, but its wall time never runs back: it stands still until the host catches up. */
  readonly clock: Clock;
  readonly #options: ClockGuardOptions;
  #highestMs: number;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  private constructor(options: ClockGuardOptions, highestMs: number) {
    this.#options = options;
    this.#highestMs = highestMs;
    const { clock } = options;
    this.clock = {
      now: () => this.#now(),
      monotonicMs: () => clock.monotonicMs(),
      wait: (milliseconds, signal) => clock.wait(milliseconds, signal),
      waitUntil: async (at, signal) => {
        if (at > this.#now()) await clock.waitUntil(at, signal);
      },
    };
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
    const guard = new ClockGuard(options, highest);
    await guard.#remember();
    return guard;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort();
    await this.#running;
    await this.#remember();
  }

  #now(): Date {
    this.#highestMs = Math.max(this.#highestMs, this.#options.clock.now().getTime());
    return new Date(this.#highestMs);
  }

  async #remember(): Promise<void> {
    await this.#options.store.transaction(async (tx) => {
      // Another server on the store may have seen a later one, which is not for this one to go by.
      const highest = Math.max(this.#now().getTime(), await highestMs(tx));
      await tx.run(
        `insert into meta (key, value) values ('highest_time_ms', ?)
         on conflict (key) do update set value = excluded.value`,
        String(highest),
      );
    });
  }

  #tellSetBack(): void {
    const behindMs = this.#now().getTime() - this.#options.clock.now().getTime();
    if (behindMs < UNTOLD_MS) return;
    this.#options.log.error(
      { behind_ms: behindMs },
      'the clock was set back: time stands still here until it has caught up',
    );
  }

  async #run(): Promise<void> {
    const { clock, log } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        await clock.wait(INTERVAL_MS, signal);
        this.#tellSetBack();
        await this.#remember();
      } catch (error) {
        if (!signal.aborted) log.error({ err: error }, 'highest time seen could not be kept');
      }
    }
  }
}

async function highestMs(store: Reader): Promise<number> {
  const row = await store.get(`select value from meta where key = 'highest_time_ms'`);
  return Number(row?.value ?? 0);
}
