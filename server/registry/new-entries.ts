import { randomUUID } from 'node:crypto';
import { setImmediate as breathe } from 'node:timers/promises';
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import type { SpiffeId, TrustDomain } from '../../identity/spiffe-id.ts';
import { type Entry, EntrySchema } from '../../proto/gen/spire/api/types/entry_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { AuditLog, EventInit } from '../audit/audit-log.ts';
import type { SqlValue, Transaction } from '../plugins/datastore/datastore.ts';
import { blob, text } from '../plugins/datastore/row.ts';
import { type EntryChange, entryAttributes, entryEvent } from './entry-change.ts';
import { addFederation } from './entry-federation.ts';
import { type CheckedEntry, entryChecker } from './entry-validation.ts';
import { federatedTrustDomains } from './federated-bundle-rows.ts';
import {
  createdEvent,
  type Identities,
  insertIdentities,
  recordAttributes,
  standingOf,
} from './identities.ts';
import type { IdentityRecord } from './identity-records.ts';
import type { EntryChanged, IdentityChanged, RegistryChanges } from './registry-changes.ts';
import { ReservedNames } from './reserved-names.ts';

/** An entry as it stands after `create`; not `isNew` if a similar one was there. */
export interface CreatedEntry {
  readonly entry: Entry;
  readonly isNew: boolean;
}

export interface NewEntriesOptions {
  readonly tx: Transaction;
  readonly change: EntryChange;
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly trustDomain: TrustDomain;
  readonly changes: RegistryChanges;
  readonly identities: Identities;
}

type Attributes = NonNullable<EventInit['attributes']>;

/** Items between two looks at what else there is to do: a few milliseconds. */
const ITEMS_AT_ONCE = 50;
/** Entries that wait to be written: garbage that dies young costs little, statements cost little too. */
const WRITE_AT_ONCE = 250;
const COLUMNS = [
  ...['id', 'spiffe_id', 'parent_id', 'selectors', 'body', 'expires_at_ms', 'created_at_ms'],
];

/**
 * Entries that are made together: what they need to know of the store is read at once, and what they
 * write goes there at once, so that a thousand cost a few statements.
 */
export class NewEntries {
  readonly #options: NewEntriesOptions;
  readonly #asked: readonly (CheckedEntry | Fault)[];
  readonly #similar: Map<string, Entry>;
  readonly #ids: Set<string>;
  readonly #recorded: Set<string>;
  readonly #reserved: ReservedNames;
  readonly #draft: (spiffeId: SpiffeId) => IdentityRecord;
  readonly #rows: SqlValue[][] = [];
  readonly #made: EntryChanged[] = [];
  readonly #records: IdentityRecord[] = [];
  readonly #events: EventInit[] = [];
  /** All drafts have them in common. */
  #recordAttributes: Attributes | undefined;
  #last: (Pick<CheckedEntry, 'parentId' | 'selectors'> & { attributes: Attributes }) | undefined;
  #writing: Promise<void> = Promise.resolve();

  private constructor(
    options: NewEntriesOptions,
    asked: readonly (CheckedEntry | Fault)[],
    known: Known,
  ) {
    this.#options = options;
    this.#asked = asked;
    this.#similar = known.similar;
    this.#ids = known.ids;
    this.#recorded = known.recorded;
    this.#reserved = known.reserved;
    this.#draft = options.identities.drafts(options.change.bounds?.identityDefaults);
  }

  /** @param inits untrusted */
  static async open(
    options: NewEntriesOptions,
    inits: readonly MessageInitShape<typeof EntrySchema>[],
  ): Promise<NewEntries> {
    const { tx, trustDomain, change } = options;
    const { allowReserved = false } = change;
    const federates = inits.some(({ federatesWith = [] }) => federatesWith.length > 0);
    const federated = federates ? await federatedTrustDomains(tx) : new Set<string>();
    const rules = { trustDomain, allowReserved, federated };
    const check = entryChecker(rules);
    const asked = await eachInTurn(inits, (init) => check(create(EntrySchema, init)));
    const checked = asked.flatMap((one) => (one instanceof Fault ? [] : [one]));
    return new NewEntries(options, asked, await known(tx, checked));
  }

  /** Makes what can be made, in order; what stands against an entry is in its place. */
  async create(): Promise<(CreatedEntry | Fault)[]> {
    const { bounds } = this.#options.change;
    // Bounds read the store for each entry, so the ones before it must be there.
    const writeAtOnce = bounds === undefined ? WRITE_AT_ONCE : 1;
    const results: (CreatedEntry | Fault)[] = [];
    for (const [at, one] of this.#asked.entries()) {
      if (this.#made.length >= writeAtOnce) await this.#flush();
      if (at % ITEMS_AT_ONCE === ITEMS_AT_ONCE - 1) await breathe();
      try {
        if (bounds !== undefined) {
          await this.#writing;
          await bounds.requireWithin(valid(one).entry);
        }
        results.push(this.#createOne(valid(one)));
      } catch (error) {
        results.push(faultOf(error));
      }
    }
    await this.#flush();
    await this.#writing;
    return results;
  }

  #createOne(checked: CheckedEntry): CreatedEntry {
    const { clock, change } = this.#options;
    const { entry } = checked;
    const key = similarKey(...similarColumns(checked));
    const similar = this.#similar.get(key);
    if (similar !== undefined) {
      change.bounds?.requireOwn(similar);
      return { entry: similar, isNew: false };
    }
    if (this.#ids.has(entry.id))
      throw new Fault('ALREADY_EXISTS', 'an entry of that id is there already');
    this.#reserved.refuse(entry.dnsNames);
    const identity = this.#record(checked);
    const nowMs = clock.now().getTime();
    if (entry.id === '') entry.id = newId(nowMs);
    entry.revisionNumber = 0n;
    entry.createdAt = BigInt(Math.floor(nowMs / 1000));
    this.#similar.set(key, entry);
    this.#ids.add(entry.id);
    this.#rows.push(rowOf(checked));
    this.#made.push({ kind: 'entry', id: entry.id, entry, identity });
    this.#events.push(
      entryEvent('entry.created', entry, change.actor, this.#entryAttributes(checked)),
    );
    return { entry, isNew: true };
  }

  /** The same object for entries that follow each other and are told of alike. */
  #entryAttributes({ entry, parentId, selectors }: CheckedEntry): Attributes {
    const last = this.#last;
    if (last?.parentId === parentId && last.selectors === selectors) return last.attributes;
    const attributes = entryAttributes(entry);
    this.#last = { parentId, selectors, attributes };
    return attributes;
  }

  /** The identity record, if there is none. */
  #record({ spiffeId }: CheckedEntry): IdentityChanged | undefined {
    const { change } = this.#options;
    const id = spiffeId.toString();
    if (this.#recorded.has(id)) return undefined;
    const record = this.#draft(spiffeId);
    this.#recorded.add(id);
    this.#records.push(record);
    this.#recordAttributes ??= recordAttributes(record);
    this.#events.push(createdEvent(record, change.actor, this.#recordAttributes));
    return standingOf(record);
  }

  /** Begins to write what has gathered, once what was begun before is written. */
  async #flush(): Promise<void> {
    await this.#writing;
    this.#writing = this.#write();
    // Whoever waits for it next is told.
    this.#writing.catch(() => undefined);
  }

  /** Together, so that a store elsewhere has work while the events are made. */
  async #write(): Promise<void> {
    if (this.#made.length === 0) return;
    const { tx, audit, changes } = this.#options;
    const made = this.#made.splice(0);
    const entries = made.flatMap(({ entry }) => entry ?? []);
    await Promise.all([
      insertIdentities(tx, this.#records.splice(0)),
      tx.insertMany({ table: 'entries', columns: COLUMNS, rows: this.#rows.splice(0) }),
      changes.record(tx, ...made),
      addFederation(tx, entries),
      audit.append(tx, ...this.#events.splice(0)),
    ]);
  }
}

/**
 * A UUID that begins with the time, so that new rows lie side by side in the store: at random places, a
 * thousand would touch a thousand pages.
 * Source: RFC 9562, section 5.7.
 */
function newId(nowMs: number): string {
  const time = nowMs.toString(16).padStart(12, '0');
  return `${time.slice(0, 8)}-${time.slice(8)}-7${randomUUID().slice(15)}`;
}

interface Known {
  /** By what makes two entries similar. */
  readonly similar: Map<string, Entry>;
  /** Of those that were asked for. */
  readonly ids: Set<string>;
  /** SPIFFE IDs that have a record. */
  readonly recorded: Set<string>;
  readonly reserved: ReservedNames;
}

async function known(tx: Transaction, checked: readonly CheckedEntry[]): Promise<Known> {
  const keys = new Map(
    checked.map((one) => {
      const columns = similarColumns(one);
      return [similarKey(...columns), columns];
    }),
  );
  const similar = await tx.findMany({
    table: 'entries',
    columns: ['spiffe_id', 'parent_id', 'selectors', 'body'],
    by: ['spiffe_id', 'parent_id', 'selectors'],
    keys: [...keys.values()],
  });
  const asked = new Set(checked.map(({ entry }) => entry.id).filter((id) => id !== ''));
  const spiffeIds = new Set(checked.map(({ spiffeId }) => spiffeId.toString()));
  const one = (table: string, column: string, values: Iterable<string>) =>
    tx.findMany({
      ...{ table, columns: [column], by: [column] },
      keys: [...values].map((value) => [value]),
    });
  const ids = await one('entries', 'id', asked);
  const recorded = await one('identities', 'spiffe_id', spiffeIds);
  return {
    similar: new Map(
      similar.map((row) => [
        similarKey(text(row, 'spiffe_id'), text(row, 'parent_id'), text(row, 'selectors')),
        fromBinary(EntrySchema, blob(row, 'body')),
      ]),
    ),
    ids: new Set(ids.map((row) => text(row, 'id'))),
    recorded: new Set(recorded.map((row) => text(row, 'spiffe_id'))),
    reserved: await ReservedNames.read(
      tx,
      checked.some(({ entry }) => entry.dnsNames.length > 0),
    ),
  };
}

function similarColumns(checked: CheckedEntry): [string, string, string] {
  const { spiffeId, parentId, selectors } = checked;
  return [spiffeId.toString(), parentId.toString(), selectors];
}

/** No SPIFFE ID has a space in it. */
function similarKey(spiffeId: string, parentId: string, selectors: string): string {
  return `${spiffeId} ${parentId} ${selectors}`;
}

function rowOf(checked: CheckedEntry): SqlValue[] {
  const { entry } = checked;
  return [
    ...[entry.id, ...similarColumns(checked), toBinary(EntrySchema, entry)],
    ...[Number(entry.expiresAt) * 1000, Number(entry.createdAt) * 1000],
  ];
}

/** The results of `act` in order, or the Fault that it threw. */
async function eachInTurn<T, R>(items: readonly T[], act: (item: T) => R): Promise<(R | Fault)[]> {
  const results: (R | Fault)[] = [];
  for (const [at, item] of items.entries()) {
    if (at % ITEMS_AT_ONCE === ITEMS_AT_ONCE - 1) await breathe();
    try {
      results.push(act(item));
    } catch (error) {
      results.push(faultOf(error));
    }
  }
  return results;
}

function valid(one: CheckedEntry | Fault): CheckedEntry {
  if (one instanceof Fault) throw one;
  return one;
}

function faultOf(error: unknown): Fault {
  if (error instanceof Fault) return error;
  throw error;
}
