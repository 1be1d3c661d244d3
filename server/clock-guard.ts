import { BackgroundLoop } from '../runtime/background-loop.ts';
import type { Clock } from '../runtime/clock.ts';
import { Fault } from '../runtime/fault.ts';
import type { Logger } from '../runtime/log.ts';
import type { Datastore, Reader } from './plugins/datastore/datastore.ts';

const TOLERANCE_MS = 5 * 60 * 1000;
const INTERVAL_MS = 10_000;
/** Clocks are set right by less than this all the time. */
const UNTOLD_MS = 5000;
const LOOK_MS = 1000;
/** A host that was suspended wakes up this much later at most; beyond, its clock is taken to be wrong. */
const LEAP_MS = 31 * 24 * 60 * 60 * 1000;

export interface ClockGuardOptions {
  readonly store: Datastore;
  /** The host's. */
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Remembers the highest time seen, so that a server whose clock was set back does not bring what has
 * expired or was revoked to life again: revocations are told from later SVIDs by their time. Until the host
 * has caught up time runs at half its pace, so that what lives still ends. A leap far ahead is not
 * followed, for it would end, forget and delete what nobody brings back: time goes on from where it was, and
 * nobody is served over the network until the clock is right or the server is started again.
 */
export class ClockGuard implements AsyncDisposable {
  /** The host's clock, but its wall time never runs back and never leaps. */
  readonly clock: Clock;
  readonly #options: ClockGuardOptions;
  #highestMs: number;
  /** Of the monotonic clock, when time was last read. */
  #readAtMs: number;
  #isAstray = false;
  readonly #loop: BackgroundLoop;
  #isClosed = false;

  private constructor(options: ClockGuardOptions, highestMs: number) {
    this.#options = options;
    const { clock } = options;
    // However long the server was down, that time has passed.
    this.#highestMs = Math.max(highestMs, clock.now().getTime());
    this.#readAtMs = clock.monotonicMs();
    this.clock = {
      now: () => this.#now(),
      monotonicMs: () => clock.monotonicMs(),
      wait: (milliseconds, signal) => clock.wait(milliseconds, signal),
      waitUntil: async (at, signal) => {
        for (let left = this.#leftMs(at); left > 0; left = this.#leftMs(at))
          await clock.wait(Math.min(left, LOOK_MS), signal);
      },
    };
    this.#loop = new BackgroundLoop({
      ...{ clock, log: options.log, retryMs: () => INTERVAL_MS },
      failure: 'highest time seen could not be kept',
      turn: async () => {
        this.#tellOff();
        await this.#remember();
        return INTERVAL_MS;
      },
    });
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

  /** Whether the host's clock has leapt so far ahead that it cannot be right. */
  get isAstray(): boolean {
    this.#now();
    return this.#isAstray;
  }

  /** Lets nobody act over the network by a time that cannot be right. @throws Fault UNAVAILABLE */
  refuseWhileAstray({ peer }: { readonly peer: { readonly kind: 'local' | 'remote' } }): void {
    if (peer.kind === 'remote' && this.isAstray)
      throw new Fault('UNAVAILABLE', 'the clock of this server has leapt and is not right yet');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#loop[Symbol.asyncDispose]();
    await this.#remember();
  }

  #now(): Date {
    const { clock } = this.#options;
    const wallMs = clock.now().getTime();
    const monotonicMs = clock.monotonicMs();
    const passedMs = Math.max(0, monotonicMs - this.#readAtMs);
    this.#readAtMs = monotonicMs;
    this.#isAstray = wallMs - this.#highestMs - passedMs > LEAP_MS;
    this.#highestMs = this.#isAstray
      ? this.#highestMs + passedMs
      : Math.max(wallMs, this.#highestMs + passedMs / 2);
    return new Date(this.#highestMs);
  }

  #leftMs(at: Date): number {
    return at.getTime() - this.#now().getTime();
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

  #tellOff(): void {
    const { clock, log } = this.#options;
    const behindMs = this.#now().getTime() - clock.now().getTime();
    if (this.#isAstray)
      log.error(
        { ahead_ms: -behindMs },
        'the clock leapt far ahead: nobody is served over the network; set it right, or start the server again if it is',
      );
    else if (behindMs >= UNTOLD_MS)
      log.error(
        { behind_ms: behindMs },
        'the clock was set back: time runs at half its pace here until it has caught up',
      );
  }
}

async function highestMs(store: Reader): Promise<number> {
  const row = await store.get(`select value from meta where key = 'highest_time_ms'`);
  return Number(row?.value ?? 0);
}
