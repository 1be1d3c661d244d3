import { Outcome } from '../proto/gen/writ/audit/v1/audit_pb.ts';
import { Fault } from '../runtime/fault.ts';
import type { Actor } from './access/actor.ts';
import type { AuditLog } from './audit/audit-log.ts';
import type { Datastore } from './plugins/datastore/datastore.ts';

/** The key in `meta` under which a restore leaves when it was done; gone once an operator has unlocked. */
export const RESTORED_AT = 'restored_at';

const MAXIMUM_REASON = 512;

export interface RestoredLockOptions {
  readonly store: Datastore;
  readonly audit: AuditLog;
}

/**
 * Keeps a server that was restored from a backup shut until an operator has looked it over (threats M2):
 * what was deleted or revoked after the backup was taken may stand in it again.
 */
export class RestoredLock {
  readonly #options: RestoredLockOptions;
  #isLocked = false;

  private constructor(options: RestoredLockOptions) {
    this.#options = options;
  }

  static async open(options: RestoredLockOptions): Promise<RestoredLock> {
    const lock = new RestoredLock(options);
    const row = await options.store.get('select value from meta where key = ?', RESTORED_AT);
    lock.#isLocked = row !== undefined;
    return lock;
  }

  get isLocked(): boolean {
    return this.#isLocked;
  }

  /** @throws Fault FAILED_PRECONDITION while the server is locked, for what gives something out */
  refuseWhileLocked(): void {
    if (this.#isLocked)
      throw new Fault(
        'FAILED_PRECONDITION',
        'this server was restored from a backup and is locked: look over entries, agents, identities and grants, then run writ server unlock',
      );
  }

  /** @throws Fault FAILED_PRECONDITION if it is not locked, INVALID_ARGUMENT */
  async unlock(actor: Actor, reason: string): Promise<void> {
    const { store, audit } = this.#options;
    if (!this.#isLocked) throw new Fault('FAILED_PRECONDITION', 'this server is not locked');
    if (reason.trim() === '' || reason.length > MAXIMUM_REASON)
      throw new Fault('INVALID_ARGUMENT', `reason: a line of at most ${MAXIMUM_REASON} characters`);
    await store.transaction(async (tx) => {
      await tx.run('delete from meta where key = ?', RESTORED_AT);
      await audit.append(tx, {
        ...{ type: 'server.unlocked', outcome: Outcome.SUCCESS, actor, reason },
      });
      tx.afterCommit(() => {
        this.#isLocked = false;
      });
    });
  }
}
