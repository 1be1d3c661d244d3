import { setImmediate as breathe } from 'node:timers/promises';
import { Fault } from '../../../runtime/fault.ts';
import type { Datastore, KeysInit, Row, RowsInit, SqlValue, Transaction } from './datastore.ts';

type Work = (tx: Transaction) => Promise<unknown>;

interface Waiting {
  readonly work: Work;
  resolve(result: unknown): void;
  reject(reason: unknown): void;
}

/** How long a transaction takes more work in: nobody's answer waits much longer for others'. */
const GATHER_MS = 25;
/** Of it in one turn of the event loop. */
const TURN_MS = 10;

/**
 * Work of calls that come faster than the store commits: what has gathered during one transaction shares
 * the next, so that a hundred small calls wait for the disk a few times. A work whose neighbour fails
 * after it has begun to write runs twice.
 */
export class SharedTransactions {
  readonly #store: Pick<Datastore, 'transaction'>;
  readonly #waiting: Waiting[] = [];
  #isRunning = false;

  constructor(store: Pick<Datastore, 'transaction'>) {
    this.#store = store;
  }

  /** The one of a store, so that calls of all kinds share its commits. */
  static of(store: Datastore): SharedTransactions {
    const known = OF_STORES.get(store);
    if (known !== undefined) return known;
    const shared = new SharedTransactions(store);
    OF_STORES.set(store, shared);
    return shared;
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
    const results = await this.#store.transaction(async (store) => {
      const tx = new NotedTransaction(store);
      const done: unknown[] = [];
      const endMs = performance.now() + GATHER_MS;
      let turnEndMs = performance.now() + TURN_MS;
      do {
        const next = this.#waiting.shift();
        if (next === undefined) break;
        await takePart(next, { tx, taken, done });
        if (performance.now() < turnEndMs) continue;
        await breathe();
        turnEndMs = performance.now() + TURN_MS;
      } while (performance.now() < endMs);
      return done;
    });
    for (const [at, { resolve }] of taken.entries()) resolve(results[at]);
  }

  async #alone({ work, resolve, reject }: Waiting): Promise<void> {
    await this.#store.transaction(work).then(resolve, reject);
  }
}

const OF_STORES = new WeakMap<Datastore, SharedTransactions>();

interface Sharing {
  readonly tx: NotedTransaction;
  /** Who took part, and with what result. */
  readonly taken: Waiting[];
  readonly done: unknown[];
}

/** A work that says no before it has written leaves nothing to undo, so the others go on. */
async function takePart(next: Waiting, { tx, taken, done }: Sharing): Promise<void> {
  taken.push(next);
  tx.hasWritten = false;
  try {
    done.push(await next.work(tx));
  } catch (error) {
    if (tx.hasWritten || !isRefusal(error)) throw error;
    taken.pop();
    next.reject(error);
  }
}

/** What a work says no by, as opposed to what broke, which may have broken the transaction too. */
function isRefusal(error: unknown): boolean {
  return error instanceof Fault && error.code !== 'STORE_UNAVAILABLE' && error.code !== 'INTERNAL';
}

/** Notes whether something would have to be undone. */
class NotedTransaction implements Transaction {
  readonly #inner: Transaction;
  hasWritten = false;

  constructor(inner: Transaction) {
    this.#inner = inner;
  }

  get(sql: string, ...parameters: readonly SqlValue[]): Promise<Row | undefined> {
    return this.#inner.get(sql, ...parameters);
  }

  all(sql: string, ...parameters: readonly SqlValue[]): Promise<Row[]> {
    return this.#inner.all(sql, ...parameters);
  }

  findMany(init: KeysInit): Promise<Row[]> {
    return this.#inner.findMany(init);
  }

  run(sql: string, ...parameters: readonly SqlValue[]): Promise<number> {
    this.hasWritten = true;
    return this.#inner.run(sql, ...parameters);
  }

  insertMany(init: RowsInit): Promise<void> {
    this.hasWritten = true;
    return this.#inner.insertMany(init);
  }

  afterCommit(then: () => void): void {
    this.hasWritten = true;
    this.#inner.afterCommit(then);
  }
}
