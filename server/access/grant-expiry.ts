import { timestampMs } from '@bufbuild/protobuf/wkt';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Grant } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { Datastore } from '../plugins/datastore/datastore.ts';
import { SERVER_ACTOR } from './actor.ts';
import { findGrant, listGrants, type Resources } from './resources.ts';
import type { Revocations } from './revocations.ts';

export interface GrantExpiryOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly resources: Resources;
  readonly revocations: Revocations;
}

/** How soon a grant that was just declared is looked at. */
const LOOK_MS = 500;
const CAUSE = 'grant.expired';

/** Ends what hangs on a grant when its time has come, also after a stop in between. */
export class GrantExpiry {
  readonly #options: GrantExpiryOptions;
  #revision: bigint | undefined;
  /** The next end of a grant that has not expired. */
  #nextMs = Number.POSITIVE_INFINITY;

  constructor(options: GrantExpiryOptions) {
    this.#options = options;
  }

  /** Runs until `signal` aborts, and rejects then. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, resources } = this.#options;
    for (;;) {
      const now = clock.now().getTime();
      if (this.#revision !== resources.revision.value || now >= this.#nextMs) await this.expire();
      // Not less than a moment, so that no clock makes this loop hold the process.
      const left = Math.max(this.#nextMs - clock.now().getTime(), 1);
      await clock.wait(Math.min(left, LOOK_MS), signal);
    }
  }

  /** Writes a revocation and an event for each grant that has expired and has none yet. */
  async expire(): Promise<void> {
    const { store, clock, resources } = this.#options;
    const revision = resources.revision.value;
    const now = clock.now().getTime();
    const grants = await listGrants(store);
    for (const grant of grants) if (endMs(grant) <= now) await this.#expireOne(grant);
    // Only now: what failed above is due again at the next look.
    this.#revision = revision;
    this.#nextMs = Math.min(...grants.map(endMs).filter((end) => end > now));
  }

  async #expireOne(grant: Grant): Promise<void> {
    const { store, audit, revocations } = this.#options;
    const told = await store.get(
      `select seq from revocations
       where subject_kind = 'grant' and subject = ? and cause = ? and at_ms >= ? limit 1`,
      grant.name,
      CAUSE,
      endMs(grant),
    );
    if (told !== undefined) return;
    const reason = `grant ${grant.name} has expired`;
    const subject = { kind: 'grant', value: grant.name } as const;
    await store.transaction(async (tx) => {
      const still = await findGrant(tx, grant.name);
      // It may have been prolonged since it was read.
      if (still === undefined || endMs(still) > endMs(grant)) return;
      await revocations.revoke(tx, { subject, cause: CAUSE, reason });
      await audit.append(tx, {
        type: CAUSE,
        outcome: Outcome.SUCCESS,
        actor: SERVER_ACTOR,
        grant: grant.name,
        backend: grant.backend,
        spiffeId: grant.identity,
        reason,
      });
    });
  }
}

function endMs({ expiresAt }: Grant): number {
  return expiresAt === undefined ? 0 : timestampMs(expiresAt);
}
