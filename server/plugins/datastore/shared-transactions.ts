import { setImmediate as breathe } from 'node:timers/promises';
import { Fault } from '../../../runtime/fault.ts';
import type { Datastore, Transaction } from './datastore.ts';

type Work = (tx: Transaction) => Promise<unknown>;

interface Waiting {
  readonly work: Work;
  resolve(result: unknown): void;
  reject(reason: unknown): void;
}

/** How long a transaction takes more work in: nobody's answer waits much longer for others'. */
const GATHER_MS = 25;

/**
 * Work of calls that come faster than the store commits: what has gathered during one transaction shares
 * the next, so that a hundred small calls wait for the disk a few times. A work may run twice.
 */
export class SharedTransactions {
  readonly #store: Datastore;
  readonly #waiting: Waiting[] = [];
  #isRunning = false;

  constructor(store: Datastore) {
    this.#store = store;
  }

  /** As `transaction` of the store; if `work` throws, nothing of it remains, and all else does. */
  run<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    const result = new Promise<unknown>((resolve, reject) => {
      this.#waiting.push({ work, resolve, reject });
    });
    if (!this.#isRunning) void this.#drain();
    return result as Promise<T>;
  }

  async #drain(): Promise<void> {
    this.#isRunning = true;
    while (this.#waiting.length > 0) {
      // A commit holds everything up: what has come meanwhile is read before the next transaction begins.
      await breathe();
      const taken: Waiting[] = [];
      const failed = await this.#share(taken).then(
        () => undefined,
        (reason: unknown) => ({ reason }),
      );
      if (failed !== undefined) await this.#failed(taken, failed.reason);
    }
    this.#isRunning = false;
  }

  async #failed(taken: readonly Waiting[], reason: unknown): Promise<void> {
    const isStores = reason instanceof Fault && reason.code === 'STORE_UNAVAILABLE';
    if (taken.length > 1 && !isStores) {
      // Whose fault it was is told to that one alone.
      for (const one of taken) await this.#alone(one);
      return;
    }
    // Where the store did not even begin, those that wait give up together.
    const all = taken.length === 0 ? this.#waiting.splice(0) : taken;
    for (const { reject } of all) reject(reason);
  }

  /** @param taken gets those that took part */
  async #share(taken: Waiting[]): Promise<void> {
    const results = await this.#store.transaction(async (tx) => {
      const done: unknown[] = [];
      const endMs = performance.now() + GATHER_MS;
      do {
        const next = this.#waiting.shift();
        if (next === undefined) break;
        taken.push(next);
        done.push(await next.work(tx));
      } while (performance.now() < endMs);
      return done;
    });
    for (const [at, { resolve }] of taken.entries()) resolve(results[at]);
  }

  async #alone({ work, resolve, reject }: Waiting): Promise<void> {
    await this.#store.transaction(work).then(resolve, reject);
  }
}
