import { Outcome } from '../proto/gen/writ/audit/v1/audit_pb.ts';
import { Fault } from '../runtime/fault.ts';
import { type Actor, SERVER_ACTOR } from './access/actor.ts';
import type { AuditLog } from './audit/audit-log.ts';
import type { Datastore, Transaction } from './plugins/datastore/datastore.ts';

export interface AdminSocketModeOptions {
  readonly store: Datastore;
  readonly audit: AuditLog;
  /** What the configuration says; undefined leaves the socket as it was last. */
  readonly configured: 'open' | 'limited' | undefined;
}

/**
 * Whether the admin socket is limited (threats S16). A call can limit it, and no call can open it again:
 * that takes a configuration that says so, which who reaches the socket need not be able to write, and a
 * restart.
 */
export class AdminSocketMode {
  readonly #options: AdminSocketModeOptions;
  #isLimited = false;

  private constructor(options: AdminSocketModeOptions) {
    this.#options = options;
  }

  static async open(options: AdminSocketModeOptions): Promise<AdminSocketMode> {
    const mode = new AdminSocketMode(options);
    const { store, configured } = options;
    await store.transaction(async (tx) => {
      const row = await tx.get(`select value from meta where key = 'admin_socket'`);
      const wasLimited = row?.value === 'limited';
      const isLimited = configured === undefined ? wasLimited : configured === 'limited';
      if (isLimited !== wasLimited) await mode.#write(tx, isLimited, SERVER_ACTOR);
      mode.#isLimited = isLimited;
    });
    return mode;
  }

  get isLimited(): boolean {
    return this.#isLimited;
  }

  /**
   * Limits the socket from now on, and after restarts.
   * @throws Fault FAILED_PRECONDITION if the next start would open it again
   */
  async limit(actor: Actor): Promise<void> {
    const { store, configured } = this.#options;
    if (configured === 'open')
      throw new Fault(
        'FAILED_PRECONDITION',
        'the configuration says admin_socket: open, and would open it again at the next start: take that line out first',
      );
    if (this.#isLimited) return;
    await store.transaction(async (tx) => {
      await this.#write(tx, true, actor);
      tx.afterCommit(() => {
        this.#isLimited = true;
      });
    });
  }

  async #write(tx: Transaction, isLimited: boolean, actor: Actor): Promise<void> {
    await tx.run(
      `insert into meta (key, value) values ('admin_socket', ?)
       on conflict (key) do update set value = excluded.value`,
      isLimited ? 'limited' : 'open',
    );
    await this.#options.audit.append(tx, {
      type: isLimited ? 'admin_socket.limited' : 'admin_socket.opened',
      outcome: Outcome.SUCCESS,
      actor,
    });
  }
}
