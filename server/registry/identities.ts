import type { SpiffeId } from '../../identity/spiffe-id.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { type Actor, SERVER_ACTOR } from '../access/actor.ts';
import type { Revocations } from '../access/revocations.ts';
import type { AuditLog, EventInit } from '../audit/audit-log.ts';
import type { Datastore, Reader, SqlValue, Transaction } from '../plugins/datastore/datastore.ts';
import { text } from '../plugins/datastore/row.ts';
import type { Standing } from './entry-index.ts';
import {
  type IdentityKind,
  type IdentityRecord,
  type IdentityStatus,
  identityFor,
} from './identity-records.ts';
import type { IdentityChanged, RegistryChanges } from './registry-changes.ts';

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
  /** Left out: any. */
  readonly jwtAudiences?: readonly string[];
  /** Left out, or 0: any number. */
  readonly maxAgents?: number;
}

export interface IdentitiesOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly revocations: Revocations;
  readonly changes: RegistryChanges;
  readonly defaults: IdentityDefaults | undefined;
}

const LIMITS = { owner: 256, purpose: 1024, environment: 64 } as const;
const MAXIMUM_LABELS = 64;
const MAXIMUM_LABEL = 256;
const MAXIMUM_REASON = 512;
const MAXIMUM_AUDIENCES = 64;
const MAXIMUM_AUDIENCE = 2048;
const MAXIMUM_AGENTS = 1_000_000;
const LAST_MS = Date.parse('9999-12-31T23:59:59Z');

/** Makes and changes identity records. */
export class Identities {
  readonly #options: IdentitiesOptions;

  constructor(options: IdentitiesOptions) {
    this.#options = options;
  }

  /**
   * The record of an ID that is about to be registered; made from defaults if there is none.
   * @param own the defaults of who registers it, before the server's
   * @throws Fault FAILED_PRECONDITION if there is none and there are no defaults
   */
  async ensure(
    tx: Transaction,
    spiffeId: SpiffeId,
    actor: Actor,
    own?: IdentityDefaults,
  ): Promise<IdentityRecord> {
    const known = await identityFor(tx, spiffeId);
    if (known !== undefined) return known;
    const record = this.drafts(own)(spiffeId);
    await insertIdentities(tx, [record]);
    await this.#options.audit.append(tx, createdEvent(record, actor));
    await this.#options.changes.record(tx, standingOf(record));
    return record;
  }

  /**
   * Makes the record that a new ID gets from the defaults; `insertIdentities` writes it. The returned
   * function throws Fault FAILED_PRECONDITION if there are no defaults.
   */
  drafts(own?: IdentityDefaults): (spiffeId: SpiffeId) => IdentityRecord {
    const now = this.#options.clock.now();
    const defaults = own ?? this.#options.defaults;
    if (defaults === undefined) return refuseWithoutRecord;
    const { expiresInSeconds, ...rest } = defaults;
    const expiresAt = new Date(now.getTime() + expiresInSeconds * 1000);
    const init = { ...rest, labels: {}, expiresAt, jwtAudiences: [], maxAgents: 0 };
    checkIdentity(init, now);
    return (spiffeId) => ({
      ...{ spiffeId: spiffeId.toString(), ...init, status: 'active', createdAt: now },
    });
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
    const { jwtAudiences = [], maxAgents = 0 } = init;
    const record: IdentityRecord = {
      ...{ spiffeId: spiffeId.toString(), owner, purpose, environment, kind, labels, expiresAt },
      ...{ jwtAudiences, maxAgents },
      status: known?.status ?? 'active',
      createdAt: known?.createdAt ?? now,
    };
    await this.#write(tx, record);
    const event = createdEvent(record, actor);
    await audit.append(tx, known === undefined ? event : { ...event, type: 'identity.updated' });
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

  /** The SPIFFE IDs whose records expired after `after`, up to `now`. */
  async expired(reader: Reader, after: Date, now: Date): Promise<string[]> {
    const rows = await reader.all(
      `select spiffe_id from identities where expires_at_ms > ? and expires_at_ms <= ?
       order by expires_at_ms, spiffe_id`,
      after.getTime(),
      now.getTime(),
    );
    return rows.map((row) => text(row, 'spiffe_id'));
  }

  /** Ends the sessions of records that have expired. */
  async expire(tx: Transaction, spiffeIds: readonly string[]): Promise<void> {
    const { audit, revocations, changes } = this.#options;
    for (const spiffeId of spiffeIds) {
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
      await changes.record(tx, { kind: 'identity', spiffeId });
    }
  }

  async #write(tx: Transaction, record: IdentityRecord): Promise<void> {
    await tx.run(WRITE, ...valuesOf(record));
    await this.#options.changes.record(tx, standingOf(record));
  }
}

const COLUMNS = [
  ...['spiffe_id', 'owner', 'purpose', 'environment', 'kind', 'labels', 'status'],
  ...['expires_at_ms', 'jwt_audiences', 'max_agents', 'created_at_ms'],
];

const WRITE = `insert into identities (${COLUMNS.join(', ')})
  values (${COLUMNS.map(() => '?').join(', ')})
  on conflict (spiffe_id) do update set ${COLUMNS.slice(1, -1)
    .map((column) => `${column} = excluded.${column}`)
    .join(', ')}`;

function valuesOf(record: IdentityRecord): SqlValue[] {
  const { spiffeId, owner, purpose, environment, kind, labels, status } = record;
  return [
    ...[spiffeId, owner, purpose, environment, kind, JSON.stringify(labels), status],
    ...[record.expiresAt.getTime(), JSON.stringify(record.jwtAudiences), record.maxAgents],
    record.createdAt.getTime(),
  ];
}

/** Writes records of IDs that have none; their events and changes are the caller's to tell. */
export async function insertIdentities(
  tx: Transaction,
  records: readonly IdentityRecord[],
): Promise<void> {
  await tx.insertMany({ table: 'identities', columns: COLUMNS, rows: records.map(valuesOf) });
}

/** What a record says about issuing. */
export function standingOf({ spiffeId, status, expiresAt }: IdentityRecord): IdentityChanged {
  const standing: Standing = { isActive: status === 'active', expiresAtMs: expiresAt.getTime() };
  return { kind: 'identity', spiffeId, standing };
}

/** What the log tells of a new record. @param attributes `recordAttributes` of it, or of one like it */
export function createdEvent(
  record: IdentityRecord,
  actor: Actor,
  attributes = recordAttributes(record),
): EventInit {
  const { spiffeId } = record;
  return { type: 'identity.created', outcome: Outcome.SUCCESS, actor, spiffeId, attributes };
}

export function recordAttributes(record: IdentityRecord): NonNullable<EventInit['attributes']> {
  const { owner, purpose, environment, kind, expiresAt, jwtAudiences, maxAgents } = record;
  return {
    ...{ owner, purpose, environment, kind, expires_at: expiresAt.toISOString() },
    ...(jwtAudiences.length > 0 && { jwt_audiences: jwtAudiences.join(' ').slice(0, 2048) }),
    ...(maxAgents > 0 && { max_agents: String(maxAgents) }),
  };
}

function refuseWithoutRecord(spiffeId: SpiffeId): never {
  throw new Fault(
    'FAILED_PRECONDITION',
    `${spiffeId} has no identity record: make one first, or set registration.defaults (owner, purpose, environment, kind, expires_in) in the server's configuration`,
  );
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
  const { jwtAudiences = [], maxAgents = 0 } = init;
  if (jwtAudiences.length > MAXIMUM_AUDIENCES)
    throw invalid(`more than ${MAXIMUM_AUDIENCES} jwt_audiences`);
  if (jwtAudiences.some((one) => one === '' || one.length > MAXIMUM_AUDIENCE))
    throw invalid(`one of jwt_audiences is empty or longer than ${MAXIMUM_AUDIENCE}`);
  if (maxAgents > MAXIMUM_AGENTS) throw invalid(`max_agents is more than ${MAXIMUM_AGENTS}`);
  const end = init.expiresAt.getTime();
  if (!(end > now.getTime())) throw invalid('expires_at is not in the future');
  if (end > LAST_MS) throw invalid('expires_at is after year 9999');
}

function invalid(message: string): Fault {
  return new Fault('INVALID_ARGUMENT', message);
}
