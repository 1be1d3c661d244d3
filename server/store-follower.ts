import type { Clock } from '../runtime/clock.ts';
import type { Logger } from '../runtime/log.ts';
import { Watched } from '../runtime/watched.ts';
import type { Datastore } from './plugins/datastore/datastore.ts';

/** Other servers' commits are heard of at once; this is for the word that was lost. */
const POLL_MS = 500;

export interface StoreFollowerOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Brings what this server keeps in memory up to what other servers have committed to the same store. */
export class StoreFollower implements AsyncDisposable {
  readonly #options: StoreFollowerOptions;
  readonly #catchUps: (() => Promise<void>)[] = [];
  readonly #due = new Watched(0);
  readonly #stop = new AbortController();
  readonly #running: Promise<unknown>;
  #isFailing = false;

  constructor(options: StoreFollowerOptions) {
    this.#options = options;
    const { foreignCommits } = options.store;
    const { signal } = this.#stop;
    this.#running =
      foreignCommits === undefined
        ? Promise.resolve()
        : Promise.all([this.#listen(foreignCommits.values(signal)), this.#poll(), this.#run()]);
  }

  /** @param catchUp reads what is new; called again and again, never twice at a time */
  add(catchUp: () => Promise<void>): void {
    this.#catchUps.push(catchUp);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #listen(commits: AsyncIterable<number>): Promise<void> {
    for await (const _ of commits) this.#wake();
  }

  async #poll(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await this.#options.clock.wait(POLL_MS, signal).catch(() => undefined);
      this.#wake();
    }
  }

  #wake(): void {
    this.#due.set(this.#due.value + 1);
  }

  async #run(): Promise<void> {
    for await (const _ of this.#due.values(this.#stop.signal)) {
      const outcomes = await Promise.allSettled(this.#catchUps.map((catchUp) => catchUp()));
      const failed = outcomes.find((outcome) => outcome.status === 'rejected');
      this.#tell(failed?.reason);
    }
  }

  /** Once when it begins to fail and once when it is over: a store that is down for an hour is no news. */
  #tell(reason: unknown): void {
    const isFailing = reason !== undefined;
    if (isFailing === this.#isFailing || this.#stop.signal.aborted) return;
    this.#isFailing = isFailing;
    const { log } = this.#options;
    if (isFailing) log.error({ err: reason }, 'what other servers change cannot be read');
    else log.info('what other servers change is read again');
  }
}
