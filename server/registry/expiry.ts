import { BackgroundLoop } from '../../runtime/background-loop.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Datastore, Reader, Transaction } from '../plugins/datastore/datastore.ts';
import type { Entries } from './entries.ts';
import type { EntryIndex } from './entry-index.ts';
import type { Identities } from './identities.ts';
import type { RegistryChanges } from './registry-changes.ts';

const LOOK_MS = 250;
const HOUSEKEEPING_MS = 60_000;
const RETRY_MS = 1000;
/** A thousand that end in one second must not keep all other writers out until the last is told of. */
const AT_ONCE = 250;

export interface ExpiryOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly log: Logger;
  readonly index: EntryIndex;
  readonly entries: Entries;
  readonly identities: Identities;
  readonly changes: RegistryChanges;
  /** Drops what else has expired and that nothing waits for. */
  housekeep(tx: Transaction, now: Date): Promise<void>;
}

/**
 * Acts at the second in which an entry or identity expires: its sessions end and its agents hear of
 * it. (That nothing is issued any more needs no timer.) What expired while the server was down is
 * caught up with, from the last sweep in the store on.
 */
export class Expiry implements AsyncDisposable {
  readonly #options: ExpiryOptions;
  readonly #loop: BackgroundLoop;
  #swept = new Date(0);
  #housekeepMs = 0;

  constructor(options: ExpiryOptions) {
    this.#options = options;
    const { clock, log } = options;
    this.#loop = new BackgroundLoop({
      ...{ clock, log, retryMs: () => RETRY_MS },
      failure: 'expired entries and identities could not be swept',
      turn: () => this.#turn(),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#loop[Symbol.asyncDispose]();
  }

  async #turn(): Promise<number> {
    const { clock, index } = this.#options;
    const now = clock.now();
    if (now.getTime() >= Math.min(index.nextExpiryMs(this.#swept), this.#housekeepMs)) {
      await this.sweep(now);
      this.#swept = now;
      this.#housekeepMs = now.getTime() + HOUSEKEEPING_MS;
    }
    const leftMs = index.nextExpiryMs(this.#swept) - clock.now().getTime();
    return Math.min(Math.max(leftMs, 1), LOOK_MS);
  }

  /** Does what is due at `now`. */
  async sweep(now: Date): Promise<void> {
    const { store, entries, identities, changes, housekeep } = this.#options;
    for (;;) {
      const ended = await store.transaction((tx) => entries.expire(tx, now, AT_ONCE));
      if (ended < AT_ONCE) break;
    }
    const many = await identities.expired(store, await sweptBefore(store), now);
    const told = new Set<string>();
    while (many.length - told.size > AT_ONCE) {
      const part = many.slice(told.size, told.size + AT_ONCE);
      await store.transaction((tx) => identities.expire(tx, part));
      for (const id of part) told.add(id);
    }
    await store.transaction(async (tx) => {
      // Another server on the store may have swept meanwhile.
      const swept = await sweptBefore(tx);
      const due = await identities.expired(tx, swept, now);
      await identities.expire(
        tx,
        due.filter((id) => !told.has(id)),
      );
      await housekeep(tx, now);
      await changes.prune(tx);
      await tx.run(
        `insert into meta (key, value) values ('expiry_swept_ms', ?)
         on conflict (key) do update set value = excluded.value`,
        String(Math.max(now.getTime(), swept.getTime())),
      );
    });
  }
}

async function sweptBefore(reader: Reader): Promise<Date> {
  const row = await reader.get(`select value from meta where key = 'expiry_swept_ms'`);
  return new Date(Number(row?.value ?? 0));
}
