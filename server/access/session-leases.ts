import type { Clock } from '../../runtime/clock.ts';
import type { Datastore, Transaction } from '../plugins/datastore/datastore.ts';
import { text } from '../plugins/datastore/row.ts';
import type { Sessions } from './sessions.ts';

/** How long a gateway may leave out a session before that counts as lost. */
const LEASE_MS = 30_000;
const SWEEP_MS = 5000;
/** Of one gateway; more are not read. */
const MAXIMUM_SESSIONS = 10_000;

export interface SessionLeasesOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly sessions: Sessions;
}

/** What a gateway tells of itself each second. */
export interface GatewayLease {
  /** Its SPIFFE ID. */
  readonly gateway: string;
  /** The last revocation it has applied. */
  readonly revocationSeq: bigint;
  /** Its live sessions; untrusted, so only those count that it opened. */
  readonly sessionIds: readonly string[];
}

/** Which sessions their gateways still tell of; written down together each few seconds. */
export class SessionLeases {
  readonly #options: SessionLeasesOptions;
  readonly #startedMs: number;
  /** The newest of each gateway. */
  readonly #pending = new Map<string, GatewayLease>();

  constructor(options: SessionLeasesOptions) {
    this.#options = options;
    this.#startedMs = options.clock.monotonicMs();
  }

  /** Takes note of a lease. */
  renew(lease: GatewayLease): void {
    this.#pending.set(lease.gateway, lease);
  }

  /** Sweeps each few seconds; rejects when `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.#options.clock.wait(SWEEP_MS, signal);
      await this.sweep();
    }
  }

  /** Writes leases down, opens again what had been given up, closes what nobody tells of any more. */
  async sweep(): Promise<void> {
    const leases = [...this.#pending.values()];
    this.#pending.clear();
    const now = this.#options.clock.now().getTime();
    const lost = await this.#lost(leases, now);
    if (leases.length + lost.length === 0) return;
    await this.#options.store.transaction(async (tx) => {
      for (const lease of leases) await this.#write(tx, lease, now);
      for (const id of lost) await this.#options.sessions.closeLost(tx, id);
    });
  }

  async #write(tx: Transaction, lease: GatewayLease, now: number): Promise<void> {
    const { gateway, revocationSeq, sessionIds } = lease;
    await tx.run(
      'update gateways set heartbeat_ms = ?, revocation_seq = ? where id = ?',
      now,
      Number(revocationSeq),
      gateway,
    );
    for (const id of sessionIds.slice(0, MAXIMUM_SESSIONS)) {
      const renewed = await tx.run(
        `update sessions set lease_ms = ?
         where id = ? and gateway_id = ? and closed_at_ms is null`,
        now,
        id,
        gateway,
      );
      if (renewed === 0) await this.#options.sessions.reopenFound(tx, gateway, id, now);
    }
  }

  /** After a start every session has its full time again (threats S6). */
  async #lost(leases: readonly GatewayLease[], now: number): Promise<string[]> {
    if (this.#options.clock.monotonicMs() - this.#startedMs < LEASE_MS) return [];
    const told = new Set(leases.flatMap(({ sessionIds }) => sessionIds));
    const rows = await this.#options.store.all(
      'select id from sessions where closed_at_ms is null and lease_ms < ?',
      now - LEASE_MS,
    );
    return rows.map((row) => text(row, 'id')).filter((id) => !told.has(id));
  }
}
