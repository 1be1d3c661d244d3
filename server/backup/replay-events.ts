/**
 * What the audit log tells of rights that ended, done again to a store that is from before (threats M2).
 * It only ever takes away: what gave a right, or changed one, is not done again.
 */
import { create } from '@bufbuild/protobuf';
import { type Timestamp, timestampDate, timestampFromDate } from '@bufbuild/protobuf/wkt';
import { type Event, Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import {
  LockSchema,
  type LockTarget,
  ResourceSchema,
} from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Resources } from '../access/resources.ts';
import { type RevocationInit, Revocations } from '../access/revocations.ts';
import type { Datastore, Transaction } from '../plugins/datastore/datastore.ts';

export interface ReplayOptions {
  readonly store: Datastore;
  readonly tx: Transaction;
  readonly clock: Clock;
}

type Subject = RevocationInit['subject'];

/** Changes that the log tells of without what they changed to; whether they took a right away is not known. */
const UNKNOWN: ReadonlySet<string> = new Set([
  ...['entry.updated', 'identity.updated', 'registrar.updated', 'resource.updated'],
  ...['federation.updated', 'federation.bundle.updated', 'secret.updated'],
  'rotation.proved',
]);

export class Replay {
  readonly #options: ReplayOptions;
  readonly #resources: Resources;
  readonly #revocations: Revocations;
  /** What this replay itself has shut, and may open again when the log says that it was. */
  readonly #shut = new Set<string>();
  /** How many changes of each type cannot be done again. */
  readonly unknown = new Map<string, number>();

  constructor(options: ReplayOptions) {
    this.#options = options;
    this.#resources = new Resources(options.store);
    this.#revocations = new Revocations(options.store, options.clock);
  }

  async apply(event: Event): Promise<void> {
    if (event.outcome !== Outcome.SUCCESS) return;
    if (UNKNOWN.has(event.type)) {
      this.unknown.set(event.type, (this.unknown.get(event.type) ?? 0) + 1);
      return;
    }
    await this.#steps[event.type]?.(event);
  }

  readonly #steps: Readonly<Record<string, (event: Event) => Promise<void>>> = {
    'identity.svid.issued': (event) => this.#issued(event),
    'identity.ssh_certificate.issued': (event) => this.#issued(event),
    'agent.attested': (event) => this.#spent(event),
    'agent.banned': (event) => this.#banned(event),
    'agent.evicted': (event) => this.#evicted(event),
    'agent.pruned': (event) => this.#evicted(event),
    'entry.deleted': (event) => this.#entryEnded(event),
    'entry.expired': (event) => this.#entryEnded(event),
    'identity.suspended': (event) => this.#identityShut(event, 'suspended', 'identity.suspend'),
    'identity.retired': (event) => this.#identityShut(event, 'retired', 'identity.retire'),
    'identity.expired': (event) => this.#identityExpired(event),
    'identity.activated': (event) => this.#identityOpened(event),
    'registrar.deleted': ({ spiffeId }) =>
      this.#run('delete from registrars where spiffe_id = ?', spiffeId),
    'federation.deleted': ({ attributes }) =>
      this.#run(
        'delete from federation_relationships where trust_domain = ?',
        attributes.trust_domain ?? '',
      ),
    'federation.bundle.deleted': ({ attributes }) =>
      this.#run(
        'delete from federated_bundles where trust_domain = ?',
        attributes.trust_domain ?? '',
      ),
    'resource.deleted': (event) => this.#resourceDeleted(event),
    'secret.retired': ({ attributes: { secret = '' } }) =>
      this.#run(`delete from secret_versions where name = ? and state = 'previous'`, secret),
    'secret.deleted': ({ attributes: { secret = '' } }) =>
      this.#run('delete from secret_versions where name = ?', secret),
    'lock.created': (event) => this.#locked(event),
    'lock.deleted': (event) => this.#unlocked(event),
    'session.killed': ({ sessionId, reason }) =>
      this.#revoke({ kind: 'session_id', value: sessionId }, 'session.kill', reason),
    'authority.tainted': (event) => this.#tainted(event),
    'authority.revoked': (event) => this.#distrusted(event),
    'authority.expired': (event) => this.#distrusted(event),
  };

  /** So that it can be revoked: the ledger knows what was issued, and for whom. */
  async #issued({ svidSerial, spiffeId, entryId, agentId, at, attributes }: Event): Promise<void> {
    const { kind = '', not_after: notAfter = '' } = attributes;
    const endMs = Date.parse(notAfter);
    if (svidSerial === '' || Number.isNaN(endMs)) return;
    await this.#run(
      `insert into ledger (serial, kind, spiffe_id, entry_id, agent_id, issued_at_ms, not_after_ms)
       values (?, ?, ?, ?, ?, ?, ?) on conflict (serial) do nothing`,
      ...[svidSerial, kind, spiffeId, entryId || null, agentId || null, msOf(at), endMs],
    );
  }

  /** A token that proved this node proves none again. */
  async #spent({ agentId, attributes }: Event): Promise<void> {
    if (attributes.node_attestor !== 'join_token') return;
    await this.#run('delete from join_tokens where handle = ?', agentId.split('/').at(-1) ?? '');
  }

  /** Also one that attested after the backup: it stays shut out when it comes again. */
  async #banned({ agentId, at }: Event): Promise<void> {
    this.#shut.add(`agent ${agentId}`);
    await this.#run(
      `insert into agents (id, attestation_type, serial, not_after_ms, banned, can_reattest,
         selectors, attested_at_ms)
       values (?, '', '', 0, 1, 0, '[]', ?)
       on conflict (id) do update set banned = 1, serial = '', new_serial = null,
         new_not_after_ms = null`,
      ...[agentId, msOf(at)],
    );
    await this.#revoke(
      { kind: 'agent_id', value: agentId },
      'agent.ban',
      'the agent of this identity was banned',
    );
  }

  /** An agent that the backup has as banned stays so: eviction would let it come again. */
  async #evicted({ agentId }: Event): Promise<void> {
    const all = this.#shut.delete(`agent ${agentId}`);
    const which = all ? '' : ' and banned = 0';
    await this.#run(`delete from agents where id = ?${which}`, agentId);
    await this.#revoke(
      { kind: 'agent_id', value: agentId },
      'agent.evict',
      'the agent of this identity was evicted',
    );
  }

  async #entryEnded({ entryId, type }: Event): Promise<void> {
    await this.#run('delete from entries where id = ?', entryId);
    await this.#run('delete from entry_federation where entry_id = ?', entryId);
    const cause = type === 'entry.deleted' ? 'entry.delete' : type;
    await this.#revoke(
      { kind: 'entry_id', value: entryId },
      cause,
      'the registration entry is gone',
    );
  }

  async #identityShut({ spiffeId }: Event, status: string, cause: string): Promise<void> {
    const { tx } = this.#options;
    const known = await tx.get('select status from identities where spiffe_id = ?', spiffeId);
    if (known?.status === 'active') this.#shut.add(`identity ${spiffeId}`);
    await this.#run('update identities set status = ? where spiffe_id = ?', status, spiffeId);
    await this.#revoke({ kind: 'spiffe_id', value: spiffeId }, cause, `this identity is ${status}`);
  }

  async #identityOpened({ spiffeId }: Event): Promise<void> {
    if (!this.#shut.delete(`identity ${spiffeId}`)) return;
    await this.#run(
      `update identities set status = 'active' where spiffe_id = ? and status = 'suspended'`,
      spiffeId,
    );
  }

  async #identityExpired({ spiffeId, at }: Event): Promise<void> {
    await this.#run(
      'update identities set expires_at_ms = ? where spiffe_id = ? and expires_at_ms > ?',
      ...[msOf(at), spiffeId, msOf(at)],
    );
    const reason = 'this identity has expired';
    await this.#revoke({ kind: 'spiffe_id', value: spiffeId }, 'identity.expired', reason);
  }

  async #resourceDeleted({ attributes: { kind = '', name = '' } }: Event): Promise<void> {
    await this.#run('delete from resources where kind = ? and name = ?', kind, name);
    if (kind === 'Grant')
      await this.#revoke({ kind: 'grant', value: name }, 'grant.delete', `grant ${name} is gone`);
    if (kind === 'Backend')
      await this.#revoke(
        { kind: 'backend', value: name },
        'backend.delete',
        `backend ${name} is gone`,
      );
  }

  async #locked(event: Event): Promise<void> {
    const { tx } = this.#options;
    const target = lockTarget(event);
    const { lock: name = '', expires_at: expires } = event.attributes;
    const at = new Date(msOf(event.at));
    if (target === undefined || name === '') return;
    this.#shut.add(`lock ${name}`);
    const lock = create(LockSchema, {
      ...{ name, target: { target }, reason: event.reason, createdAt: timestampFromDate(at) },
      createdBy: `uid:${event.actor?.uid ?? 0}`,
      ...(expires !== undefined && { expiresAt: timestampFromDate(new Date(expires)) }),
    });
    const resource = create(ResourceSchema, {
      ...{ name, generation: 1n, updatedAt: timestampFromDate(at) },
      body: { case: 'lock', value: lock },
    });
    await this.#resources.put(tx, resource, at);
    const subject = { kind: LOCKED[target.case], value: target.value };
    await this.#revoke(subject, 'lock.create', `locked: ${event.reason}`);
  }

  async #unlocked({ attributes: { lock = '' } }: Event): Promise<void> {
    if (!this.#shut.delete(`lock ${lock}`)) return;
    await this.#resources.delete(this.#options.tx, 'Lock', lock);
  }

  /** It signs nothing from now on. */
  async #tainted({ at, attributes: { authority = '' } }: Event): Promise<void> {
    await this.#run(
      `update authorities set tainted = 1, tainted_at_ms = ?, state = 'old' where id = ?`,
      ...[msOf(at), authority],
    );
    await this.#run(
      'update trusted_authorities set tainted_at_ms = ? where id = ?',
      ...[msOf(at), authority],
    );
  }

  async #distrusted({ attributes: { authority = '' } }: Event): Promise<void> {
    await this.#run('delete from authorities where id = ?', authority);
    await this.#run('delete from trusted_authorities where id = ?', authority);
  }

  async #revoke(subject: Subject, cause: string, reason: string): Promise<void> {
    if (subject.value === '') return;
    await this.#revocations.revoke(this.#options.tx, { subject, cause, reason });
  }

  async #run(...[sql, ...parameters]: Parameters<Transaction['run']>): Promise<void> {
    await this.#options.tx.run(sql, ...parameters);
  }
}

const LOCKED = {
  spiffeId: 'spiffe_id',
  agentId: 'agent_id',
  grant: 'grant',
  backend: 'backend',
} as const;

function lockTarget(event: Event): Exclude<LockTarget['target'], { case: undefined }> | undefined {
  for (const name of ['spiffeId', 'agentId', 'grant', 'backend'] as const)
    if (event[name] !== '') return { case: name, value: event[name] };
  return undefined;
}

function msOf(at: Timestamp | undefined): number {
  return at === undefined ? 0 : timestampDate(at).getTime();
}
