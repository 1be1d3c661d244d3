import type { Clock } from '../../runtime/clock.ts';
import { Watched, type WatchedSource } from '../../runtime/watched.ts';
import type { Datastore, Transaction } from '../plugins/datastore/datastore.ts';
import { integer } from '../plugins/datastore/row.ts';

const KEEP_MS = 12 * 60 * 60 * 1000;

/** Counts the changes that may concern an agent: entries, identities and agents. */
export class RegistryChanges {
  readonly #clock: Clock;
  readonly #head = new Watched(0n);

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The newest committed change; only grows. */
  get head(): WatchedSource<bigint> {
    return this.#head;
  }

  /** Takes the head over from the store; once, before anybody watches. */
  async load(store: Datastore): Promise<void> {
    const row = await store.get('select coalesce(max(seq), 0) as seq from entry_events');
    this.#head.set(row === undefined ? 0n : BigInt(integer(row, 'seq')));
  }

  /** @param entryId empty for a change of an identity or agent, which may concern many entries */
  async record(tx: Transaction, entryId: string): Promise<void> {
    const now = this.#clock.now().getTime();
    const row = await tx.get(
      'insert into entry_events (entry_id, at_ms) values (?, ?) returning seq',
      entryId,
      now,
    );
    const seq = row === undefined ? 0n : BigInt(integer(row, 'seq'));
    tx.afterCommit(() => {
      if (seq > this.#head.value) this.#head.set(seq);
    });
  }

  /** Drops what no watcher can ask for any more, but never the newest, which keeps the count. */
  async prune(tx: Transaction): Promise<void> {
    await tx.run(
      'delete from entry_events where at_ms < ? and seq < (select max(seq) from entry_events)',
      this.#clock.now().getTime() - KEEP_MS,
    );
  }
}
