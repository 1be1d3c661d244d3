import type { SpiffeId } from '../../identity/spiffe-id.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { type Actor, SERVER_ACTOR } from '../access/actor.ts';
import type { Revocations } from '../access/revocations.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { Datastore, Transaction } from '../plugins/datastore/datastore.ts';
import { integer, text } from '../plugins/datastore/row.ts';
import type { EntryIndex } from './entry-index.ts';
import {
  type IdentityKind,
  type IdentityRecord,
  type IdentityStatus,
  identityFor,
} from './identity-records.ts';
import type { RegistryChanges } from './registry-changes.ts';

/** What a record is made from where its maker said nothing: `registration.defaults`. */
export interface IdentityDefaults {
  readonly owner: string;
  readonly purpose: string;
  readonly environment: string;
  readonly kind: IdentityKind;
  readonly expiresInSeconds: number;
}

/** A record as its author wants it. */
export interface IdentityInit {
  readonly owner: string;
  readonly purpose: string;
  readonly environment: string;
  readonly kind: IdentityKind;
  readonly labels: Readonly<Record<string, string>>;
  readonly expiresAt: Date;
}

export interface IdentitiesOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly revocations: Revocations;
  readonly changes: RegistryChanges;
  readonly index: EntryIndex;
  readonly defaults: IdentityDefaults | undefined;
}

const LIMITS = { owner: 256, purpose: 1024, environment: 64 } as const;
const MAXIMUM_LABELS = 64;
const MAXIMUM_LABEL = 256;
const MAXIMUM_REASON = 512;
const LAST_MS = Date.parse('9999-12-31T23:59:59Z');

/** Makes and changes identity records. */
export class Identities {
  readonly #options: IdentitiesOptions;

  constructor(options: IdentitiesOptions) {
    this.#options = options;
  }

  /** Feeds the index; once. */
  async load(): Promise<void> {
    const { store, index } = this.#options;
    const rows = await store.all('select spiffe_id, status, expires_at_ms from identities');
    for (const row of rows) {
      index.setStanding(text(row, 'spiffe_id'), {
        isActive: text(row, 'status') === 'active',
        expiresAtMs: integer(row, 'expires_at_ms'),
      });
    }
  }

  /**
   * The record of an ID that is about to be registered; made from the defaults if there is none.
   * @throws Fault FAILED_PRECONDITION if there is none and there are no defaults
   */
  async ensure(tx: Transaction, spiffeId: SpiffeId, actor: Actor): Promise<IdentityRecord> {
    const { clock, defaults } = this.#options;
    const known = await identityFor(tx, spiffeId);
    if (known !== undefined) return known;
    if (defaults === undefined) {
      throw new Fault(
        'FAILED_PRECONDITION',
        `${spiffeId} has no identity record: make one first, or set registration.defaults (owner, purpose, environment, kind, expires_in) in the server's configuration`,
      );
    }
    const { expiresInSeconds, ...rest } = defaults;
    const expiresAt = new Date(clock.now().getTime() + expiresInSeconds * 1000);
    return this.put(tx, spiffeId, { ...rest, labels: {}, expiresAt }, actor);
  }

  /**
   * Makes a record, or changes all of it but its status.
   * @param init untrusted
   * @throws Fault INVALID_ARGUMENT
   */
  async put(
    tx: Transaction,
    spiffeId: SpiffeId,
    init: IdentityInit,
    actor: Actor,
  ): Promise<IdentityRecord> {
    const { clock, audit } = this.#options;
    const now = clock.now();
    checkIdentity(init, now);
    const known = await identityFor(tx, spiffeId);
    const { owner, purpose, environment, kind, labels, expiresAt } = init;
    const record: IdentityRecord = {
      ...{ spiffeId: spiffeId.toString(), owner, purpose, environment, kind, labels, expiresAt },
      status: known?.status ?? 'active',
      createdAt: known?.createdAt ?? now,
    };
    await this.#write(tx, record);
    await audit.append(tx, {
      type: known === undefined ? 'identity.created' : 'identity.updated',
      outcome: Outcome.SUCCESS,
      actor,
      spiffeId: record.spiffeId,
      attributes: { owner, purpose, environment, kind, expires_at: expiresAt.toISOString() },
    });
    return record;
  }

  /**
   * What is not active is issued nothing, and its live sessions end.
   * @param change `reason` is untrusted
   * @throws Fault NOT_FOUND, INVALID_ARGUMENT, FAILED_PRECONDITION for a retired one
   */
  async setStatus(
    spiffeId: SpiffeId,
    change: { readonly status: IdentityStatus; readonly reason: string },
    actor: Actor,
  ): Promise<IdentityRecord> {
    const { store, audit, revocations } = this.#options;
    const { status, reason } = change;
    if (reason.length > MAXIMUM_REASON)
      throw new Fault('INVALID_ARGUMENT', `reason is longer than ${MAXIMUM_REASON}`);
    return store.transaction(async (tx) => {
      const known = await identityFor(tx, spiffeId);
      if (known === undefined) throw new Fault('NOT_FOUND', 'no identity of that SPIFFE ID');
      if (known.status === 'retired' && status !== 'retired')
        throw new Fault('FAILED_PRECONDITION', 'a retired identity stays retired');
      const record = { ...known, status };
      await this.#write(tx, record);
      if (status !== 'active') {
        await revocations.revoke(tx, {
          subject: { kind: 'spiffe_id', value: record.spiffeId },
          cause: status === 'retired' ? 'identity.retire' : 'identity.suspend',
          reason:
            reason === '' ? `this identity is ${status}` : `this identity is ${status}: ${reason}`,
        });
      }
      await audit.append(tx, {
        type: status === 'active' ? 'identity.activated' : `identity.${status}`,
        outcome: Outcome.SUCCESS,
        actor,
        spiffeId: record.spiffeId,
        reason,
      });
      return record;
    });
  }

  /** Ends the sessions of the records that expired after `after`, up to `now`. */
  async expire(tx: Transaction, after: Date, now: Date): Promise<void> {
    const { audit, revocations, changes } = this.#options;
    const rows = await tx.all(
      'select spiffe_id from identities where expires_at_ms > ? and expires_at_ms <= ?',
      after.getTime(),
      now.getTime(),
    );
    for (const row of rows) {
      const spiffeId = text(row, 'spiffe_id');
      await revocations.revoke(tx, {
        subject: { kind: 'spiffe_id', value: spiffeId },
        cause: 'identity.expired',
        reason: 'this identity has expired',
      });
      await audit.append(tx, {
        type: 'identity.expired',
        outcome: Outcome.SUCCESS,
        actor: SERVER_ACTOR,
        spiffeId,
      });
      await changes.record(tx, '');
    }
  }

  async #write(tx: Transaction, record: IdentityRecord): Promise<void> {
    const { index, changes } = this.#options;
    const { spiffeId, owner, purpose, environment, kind, labels, status } = record;
    const expiresAtMs = record.expiresAt.getTime();
    await tx.run(
      `insert into identities (spiffe_id, owner, purpose, environment, kind, labels, status,
         expires_at_ms, created_at_ms)
       values (?, ?, ?, ?, ?, ?, ?, ?, ?)
       on conflict (spiffe_id) do update set owner = excluded.owner, purpose = excluded.purpose,
         environment = excluded.environment, kind = excluded.kind, labels = excluded.labels,
         status = excluded.status, expires_at_ms = excluded.expires_at_ms`,
      spiffeId,
      owner,
      purpose,
      environment,
      kind,
      JSON.stringify(labels),
      status,
      expiresAtMs,
      record.createdAt.getTime(),
    );
    await changes.record(tx, '');
    tx.afterCommit(() =>
      index.setStanding(spiffeId, { isActive: status === 'active', expiresAtMs }),
    );
  }
}

function checkIdentity(init: IdentityInit, now: Date): void {
  for (const [name, limit] of Object.entries(LIMITS)) {
    const value = init[name as keyof typeof LIMITS];
    if (value.trim() === '') throw invalid(`${name} is empty`);
    if (value.length > limit) throw invalid(`${name} is longer than ${limit}`);
  }
  const labels = Object.entries(init.labels);
  if (labels.length > MAXIMUM_LABELS) throw invalid(`more than ${MAXIMUM_LABELS} labels`);
  if (labels.flat().some((text) => text.length > MAXIMUM_LABEL))
    throw invalid(`a label is longer than ${MAXIMUM_LABEL}`);
  const end = init.expiresAt.getTime();
  if (!(end > now.getTime())) throw invalid('expires_at is not in the future');
  if (end > LAST_MS) throw invalid('expires_at is after year 9999');
}

function invalid(message: string): Fault {
  return new Fault('INVALID_ARGUMENT', message);
}
