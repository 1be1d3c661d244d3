import { clone, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import {
  type Entry,
  type EntryMask,
  EntrySchema,
} from '../../proto/gen/spire/api/types/entry_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { SERVER_ACTOR } from '../access/actor.ts';
import type { Revocations } from '../access/revocations.ts';
import type { AuditLog, EventInit } from '../audit/audit-log.ts';
import type { Datastore, Reader, Transaction } from '../plugins/datastore/datastore.ts';
import { blob, text } from '../plugins/datastore/row.ts';
import { type EntryChange, entryEvent } from './entry-change.ts';
import { addFederation, dropFederation } from './entry-federation.ts';
import { idText } from './entry-index.ts';
import { type CheckedEntry, checkEntry } from './entry-validation.ts';
import { federatedTrustDomains } from './federated-bundle-rows.ts';
import type { Identities } from './identities.ts';
import { type CreatedEntry, NewEntries } from './new-entries.ts';
import type { RegistryChanges } from './registry-changes.ts';
import { refuseGatewayNames } from './reserved-names.ts';
import { selectorText } from './selectors.ts';

export interface EntriesOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly trustDomain: TrustDomain;
  readonly revocations: Revocations;
  readonly changes: RegistryChanges;
  readonly identities: Identities;
}

/** Registration entries: rows of the store, mirrored in the index once they are committed. */
export class Entries {
  readonly #options: EntriesOptions;

  constructor(options: EntriesOptions) {
    this.#options = options;
  }

  /**
   * Makes an entry, and its identity record if there is none. An entry of the same SPIFFE ID, parent
   * and selectors is returned as it stands, whatever else differs.
   * @param init untrusted
   * @throws Fault INVALID_ARGUMENT, FAILED_PRECONDITION, ALREADY_EXISTS for an id that is taken,
   *   PERMISSION_DENIED for a gateway's name
   */
  async create(
    tx: Transaction,
    init: MessageInitShape<typeof EntrySchema>,
    change: EntryChange,
  ): Promise<CreatedEntry> {
    const [made] = await this.createAll(tx, [init], change);
    if (made === undefined) throw new Error('an entry that was to be made is lost');
    if (made instanceof Fault) throw made;
    return made;
  }

  /** The same for many, in their order; what `create` would throw stands in the place of its entry. */
  async createAll(
    tx: Transaction,
    inits: readonly MessageInitShape<typeof EntrySchema>[],
    change: EntryChange,
  ): Promise<(CreatedEntry | Fault)[]> {
    const batch = await NewEntries.open({ ...this.#options, tx, change }, inits);
    return batch.create();
  }

  /**
   * Changes an entry. Sessions end if it no longer says the same of who may have its SPIFFE ID.
   * @param update untrusted; `id` says which
   * @param mask the fields to change; undefined is all of them
   * @throws Fault NOT_FOUND, INVALID_ARGUMENT, FAILED_PRECONDITION, ALREADY_EXISTS, PERMISSION_DENIED
   */
  async update(
    tx: Transaction,
    update: Entry,
    mask: EntryMask | undefined,
    { actor, bounds, allowReserved = false }: EntryChange,
  ): Promise<Entry> {
    const { trustDomain, clock, identities } = this.#options;
    const known = await findEntry(tx, update.id);
    if (known === undefined) throw new Fault('NOT_FOUND', 'entry not found');
    bounds?.requireOwn(known);
    const federated = await federatedTrustDomains(tx);
    const rules = { trustDomain, allowReserved, federated };
    const checked = checkEntry(merge(known, update, mask), rules);
    const { entry } = checked;
    await bounds?.requireWithin(entry);
    const similar = await findSimilar(tx, checked);
    if (similar !== undefined && similar.id !== known.id)
      throw new Fault('ALREADY_EXISTS', 'a similar entry is there already');
    await refuseGatewayNames(tx, entry.dnsNames);
    await identities.ensure(tx, checked.spiffeId, actor, bounds?.identityDefaults);
    entry.revisionNumber = known.revisionNumber + 1n;
    if (holderKey(entry) !== holderKey(known) || hasEnded(entry, clock.now()))
      await this.#revoke(tx, known, 'entry.update', 'the entry of this identity was changed');
    await dropFederation(tx, known);
    await this.#write(tx, checked, entryEvent('entry.updated', entry, actor));
    await addFederation(tx, [entry]);
    return entry;
  }

  /** Deletes an entry and ends its sessions; false if there is none. */
  async delete(tx: Transaction, id: string, { actor, bounds }: EntryChange): Promise<boolean> {
    const known = await findEntry(tx, id);
    if (known === undefined) return false;
    bounds?.requireOwn(known);
    await this.#revoke(tx, known, 'entry.delete', 'the entry of this identity was deleted');
    await this.#remove(tx, known, entryEvent('entry.deleted', known, actor));
    return true;
  }

  /** Deletes the aliases that were made along with an agent's join token. */
  async deleteOwnAliases(tx: Transaction, agentId: string, change: EntryChange): Promise<void> {
    const rows = await tx.all(
      'select id from entries where parent_id = ? and selectors = ?',
      agentId,
      JSON.stringify([['spiffe_id', agentId]]),
    );
    for (const row of rows) await this.delete(tx, text(row, 'id'), change);
  }

  /**
   * Deletes entries that have expired, the oldest first, and ends their sessions.
   * @returns how many: as many as `most` if there may be more
   */
  async expire(tx: Transaction, now: Date, most: number): Promise<number> {
    const rows = await tx.all(
      `select body from entries where expires_at_ms > 0 and expires_at_ms <= ?
       order by expires_at_ms, id limit ?`,
      now.getTime(),
      most,
    );
    for (const row of rows) {
      const entry = fromBinary(EntrySchema, blob(row, 'body'));
      await this.#revoke(tx, entry, 'entry.expired', 'the entry of this identity has expired');
      await this.#remove(tx, entry, entryEvent('entry.expired', entry, SERVER_ACTOR));
    }
    return rows.length;
  }

  async #write(tx: Transaction, checked: CheckedEntry, event: EventInit): Promise<void> {
    const { audit, changes } = this.#options;
    const { entry } = checked;
    await tx.run(
      `update entries set spiffe_id = ?, parent_id = ?, selectors = ?, body = ?, expires_at_ms = ?
       where id = ?`,
      checked.spiffeId.toString(),
      checked.parentId.toString(),
      checked.selectors,
      toBinary(EntrySchema, entry),
      Number(entry.expiresAt) * 1000,
      entry.id,
    );
    await audit.append(tx, event);
    await changes.record(tx, { kind: 'entry', id: entry.id, entry });
  }

  async #remove(tx: Transaction, entry: Entry, event: EventInit): Promise<void> {
    const { audit, changes } = this.#options;
    await tx.run('delete from entries where id = ?', entry.id);
    await dropFederation(tx, entry);
    await audit.append(tx, event);
    await changes.record(tx, { kind: 'entry', id: entry.id, entry: undefined });
  }

  async #revoke(tx: Transaction, entry: Entry, cause: string, reason: string): Promise<void> {
    const subject = { kind: 'entry_id', value: entry.id } as const;
    await this.#options.revocations.revoke(tx, { subject, cause, reason });
  }
}

/** One entry of the store, undefined if there is none; in a transaction, as it stands there. */
export async function findEntry(reader: Reader, id: string): Promise<Entry | undefined> {
  const row = await reader.get('select body from entries where id = ?', id);
  return row === undefined ? undefined : fromBinary(EntrySchema, blob(row, 'body'));
}

async function findSimilar(reader: Reader, checked: CheckedEntry): Promise<Entry | undefined> {
  const row = await reader.get(
    'select body from entries where spiffe_id = ? and parent_id = ? and selectors = ?',
    checked.spiffeId.toString(),
    checked.parentId.toString(),
    checked.selectors,
  );
  return row === undefined ? undefined : fromBinary(EntrySchema, blob(row, 'body'));
}

/** Fields that are the server's to set, whatever a mask says. */
const OWN_FIELDS: ReadonlySet<string> = new Set(['id', 'revisionNumber', 'createdAt']);

function merge(known: Entry, update: Entry, mask: EntryMask | undefined): Entry {
  const merged: Record<string, unknown> = clone(EntrySchema, known);
  const asked: Record<string, unknown> = update;
  const chosen: Record<string, unknown> | undefined = mask;
  for (const { localName } of EntrySchema.fields) {
    if (OWN_FIELDS.has(localName)) continue;
    if (chosen === undefined || chosen[localName] === true) merged[localName] = asked[localName];
  }
  return merged as Entry;
}

function hasEnded({ expiresAt }: Entry, now: Date): boolean {
  return expiresAt > 0n && Number(expiresAt) * 1000 <= now.getTime();
}

/** What of an entry decides who gets its SPIFFE ID. */
function holderKey({ spiffeId, parentId, selectors }: Entry): string {
  return JSON.stringify([idText(spiffeId), idText(parentId), selectors.map(selectorText).sort()]);
}
