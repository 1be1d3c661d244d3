import { create } from '@bufbuild/protobuf';
import { timestampDate, timestampFromDate } from '@bufbuild/protobuf/wkt';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import {
  type Lock,
  LockSchema,
  type LockTarget,
  ResourceSchema,
} from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { AuditLog, EventInit } from '../audit/audit-log.ts';
import type { Datastore, Reader, Transaction } from '../plugins/datastore/datastore.ts';
import type { Actor } from './actor.ts';
import { randomId } from './random-id.ts';
import { findResource, listResources, type Resources } from './resources.ts';
import type { Revocations } from './revocations.ts';

/** What a lock may name; leave out what does not apply. */
export interface Lockable {
  readonly spiffeId?: string;
  readonly agentId?: string;
  readonly grant?: string;
  readonly backend?: string;
}

/** The first lock in force at `now` that names any of `subject`. */
export async function isLocked(
  reader: Reader,
  subject: Lockable,
  now: Date,
): Promise<Lock | undefined> {
  return findLock(await listLocks(reader), subject, now);
}

/** As `isLocked`, among locks that have been read already. */
export function findLock(locks: readonly Lock[], subject: Lockable, now: Date): Lock | undefined {
  return locks.find((lock) => isInForce(lock, now) && matches(lock, subject));
}

/** All locks, those that have run out too. */
export async function listLocks(reader: Reader): Promise<Lock[]> {
  const found = await listResources(reader, 'Lock');
  return found.map(({ name, body }) => {
    if (body.case !== 'lock') throw new Error(`lock ${name} holds ${body.case}`);
    return body.value;
  });
}

/** Whether it has not run out. */
export function isInForce(lock: Lock, now: Date): boolean {
  return lock.expiresAt === undefined || timestampDate(lock.expiresAt) > now;
}

/** A lock that names nothing we know matches all: it was meant to bar something. */
function matches(lock: Lock, subject: Lockable): boolean {
  const target = lock.target?.target;
  return target?.case === undefined || subject[target.case] === target.value;
}

/** A lock as its author wants it; the target is checked by the caller. */
export interface LockInit {
  readonly target: Exclude<LockTarget['target'], { case: undefined }>;
  readonly reason: string;
  /** 0: until it is deleted. */
  readonly ttlSeconds: number;
  /** The operator, e.g. `uid:0`. */
  readonly createdBy: string;
}

export interface LocksOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly resources: Resources;
  readonly revocations: Revocations;
}

/** Makes and lifts locks. */
export class Locks {
  readonly #options: LocksOptions;

  constructor(options: LocksOptions) {
    this.#options = options;
  }

  /**
   * Bars new SVIDs and sessions and ends live ones, in one transaction.
   * @throws Fault NOT_FOUND if it names a grant or backend that is not there
   */
  create(init: LockInit, actor: Actor): Promise<Lock> {
    const { store, clock, audit, resources, revocations } = this.#options;
    const now = clock.now();
    const at = timestampFromDate(now);
    const lock = create(LockSchema, {
      name: randomId('lock_'),
      target: { target: init.target },
      reason: init.reason,
      createdAt: at,
      createdBy: init.createdBy,
    });
    if (init.ttlSeconds > 0) {
      lock.expiresAt = timestampFromDate(new Date(now.getTime() + init.ttlSeconds * 1000));
    }
    const body = { case: 'lock', value: lock } as const;
    const resource = create(ResourceSchema, {
      name: lock.name,
      generation: 1n,
      updatedAt: at,
      body,
    });
    return store.transaction(async (tx) => {
      await requireTarget(tx, init.target);
      await resources.put(tx, resource, now);
      const subject = { kind: SUBJECT_KINDS[init.target.case], value: init.target.value };
      const reason = `locked: ${lock.reason}`;
      await revocations.revoke(tx, { subject, cause: 'lock.create', reason });
      await audit.append(tx, lockEvent('lock.created', lock, actor));
      return lock;
    });
  }

  /** @throws Fault NOT_FOUND */
  delete(name: string, actor: Actor): Promise<void> {
    const { store, audit, resources } = this.#options;
    return store.transaction(async (tx) => {
      const body = (await findResource(tx, 'Lock', name))?.body;
      if (body?.case !== 'lock') throw new Fault('NOT_FOUND', 'no lock of that name');
      await resources.delete(tx, 'Lock', name);
      await audit.append(tx, lockEvent('lock.deleted', body.value, actor));
    });
  }
}

const SUBJECT_KINDS = {
  spiffeId: 'spiffe_id',
  agentId: 'agent_id',
  grant: 'grant',
  backend: 'backend',
} as const;

/** A mistyped name would lock nothing; identities and agents may be locked before they are known. */
async function requireTarget(tx: Transaction, target: LockInit['target']): Promise<void> {
  if (target.case !== 'grant' && target.case !== 'backend') return;
  const kind = target.case === 'grant' ? 'Grant' : 'Backend';
  if ((await findResource(tx, kind, target.value)) === undefined) {
    throw new Fault('NOT_FOUND', `no ${target.case} of that name`);
  }
}

function lockEvent(type: string, lock: Lock, actor: Actor): EventInit {
  const target = lock.target?.target;
  const event: EventInit = {
    type,
    outcome: Outcome.SUCCESS,
    reason: lock.reason,
    attributes: {
      lock: lock.name,
      ...(lock.expiresAt && { expires_at: timestampDate(lock.expiresAt).toISOString() }),
    },
    actor,
  };
  return target?.case === undefined ? event : { ...event, [target.case]: target.value };
}
