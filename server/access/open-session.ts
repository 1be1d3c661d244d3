/**
 * Opens sessions. The server decides the grant again, whatever the gateway found (threats S2): a gateway
 * that was taken over opens nothing for a client that is not there, and nothing that was revoked.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import { timestampDate, timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { Bundle } from '../../identity/bundle.ts';
import { type VerifiedSvid, verifySvid } from '../../identity/verify.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type {
  OpenSessionRequest,
  OpenSessionResponseSchema,
} from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { Grant } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { WatchedSource } from '../../runtime/watched.ts';
import type { AuditLog, EventInit } from '../audit/audit-log.ts';
import type { Datastore, Reader, Transaction } from '../plugins/datastore/datastore.ts';
import { chooseGrant } from './choose-grant.ts';
import { DenialLimiter } from './denial-limiter.ts';
import { findGateway, mayServe } from './gateways.ts';
import { findHolder, type Holder } from './holder.ts';
import { isLocked } from './locks.ts';
import { randomId } from './random-id.ts';
import { isRefusal, type Refusal, refusal } from './refusal.ts';
import { findBackend, listGrants } from './resources.ts';

type Opened = MessageInitShape<typeof OpenSessionResponseSchema>;

export interface SessionOpenerOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly bundle: WatchedSource<Bundle>;
}

interface Attempt {
  /** The gateway's SPIFFE ID. */
  readonly gateway: string;
  readonly request: OpenSessionRequest;
  readonly now: Date;
}

interface Admission {
  readonly holder: Holder;
  readonly grant: Grant;
}

/** Decides and writes down new sessions. */
export class SessionOpener {
  readonly #options: SessionOpenerOptions;
  readonly #denials: DenialLimiter;

  constructor(options: SessionOpenerOptions) {
    this.#options = options;
    this.#denials = new DenialLimiter(options.clock);
  }

  /**
   * Resolves once the session's row and event are committed; so is the event of a refusal.
   * @param gateway SPIFFE ID of the caller, authenticated
   * @throws Fault PERMISSION_DENIED, whose message is for the client
   */
  async open(gateway: string, request: OpenSessionRequest): Promise<Opened> {
    const attempt = { gateway, request, now: this.#options.clock.now() };
    const svid = this.#verify(attempt);
    const outcome = await this.#options.store.transaction(async (tx) => {
      const admission = isRefusal(svid) ? svid : await this.#decide(tx, attempt, svid);
      return isRefusal(admission)
        ? this.#deny(tx, attempt, svid, admission)
        : this.#admit(tx, attempt, admission);
    });
    if (isRefusal(outcome)) {
      throw new Fault('PERMISSION_DENIED', outcome.says, { cause: outcome.cause });
    }
    return outcome;
  }

  #verify({ request, now }: Attempt): VerifiedSvid | Refusal {
    const bundle = this.#options.bundle.value;
    const bundles = (domain: string) => (domain === bundle.trustDomain ? bundle : undefined);
    try {
      return verifySvid(request.clientChain, bundles, now);
    } catch (error) {
      if (error instanceof Fault && error.code === 'SVID_INVALID') {
        return refusal('svid.invalid', error.message);
      }
      throw error;
    }
  }

  async #decide(
    tx: Reader,
    { gateway, request, now }: Attempt,
    svid: VerifiedSvid,
  ): Promise<Admission | Refusal> {
    const record = await findGateway(tx, gateway);
    if (record === undefined || !mayServe(record, request.backend)) {
      return refusal('backend.not_served', 'this gateway does not serve that backend');
    }
    const holder = await findHolder(tx, svid, now);
    if (isRefusal(holder)) return holder;
    const wish = { ...holder, backend: request.backend, grant: request.grant };
    const grant = chooseGrant(await listGrants(tx), wish, now);
    if (isRefusal(grant)) return grant;
    if ((await findBackend(tx, grant.backend)) === undefined) {
      return refusal('backend.unknown', 'that backend is not declared');
    }
    const { spiffeId, agentId } = holder;
    const lockable = { spiffeId, agentId, grant: grant.name, backend: grant.backend };
    const lock = await isLocked(tx, lockable, now);
    return lock === undefined ? { holder, grant } : refusal('lock', `locked: ${lock.reason}`);
  }

  async #deny(
    tx: Transaction,
    { gateway, request }: Attempt,
    svid: VerifiedSvid | Refusal,
    why: Refusal,
  ): Promise<Refusal> {
    const known = isRefusal(svid) ? {} : { spiffeId: svid.id.toString(), svidSerial: svid.serial };
    const backend = request.backend.slice(0, MAXIMUM_NAME);
    if (this.#denials.admit(known.svidSerial ?? gateway, backend, why.cause)) {
      await this.#options.audit.append(tx, {
        type: 'session.denied',
        outcome: Outcome.DENIED,
        actor: {
          kind: 'gateway',
          spiffeId: gateway,
          address: request.clientAddress.slice(0, MAXIMUM_NAME),
        },
        backend,
        grant: request.grant.slice(0, MAXIMUM_NAME),
        reason: why.says,
        attributes: { cause: why.cause },
        ...known,
      });
    }
    return why;
  }

  async #admit(tx: Transaction, attempt: Attempt, admission: Admission): Promise<Opened> {
    const { holder, grant } = admission;
    const expiresAt = sessionEnd(admission, attempt.now);
    const sessionId = randomId('s_');
    await insertSession(tx, attempt, { ...admission, sessionId, expiresAt });
    await this.#options.audit.append(
      tx,
      openedEvent(attempt, { ...admission, sessionId, expiresAt }),
    );
    return {
      sessionId,
      grant,
      expiresAt: timestampFromDate(expiresAt),
      serverTime: timestampFromDate(attempt.now),
      spiffeId: holder.spiffeId,
      svidSerial: holder.serial,
      entryId: holder.entryId,
      agentId: holder.agentId,
      owner: holder.owner,
      purpose: holder.purpose,
      environment: holder.environment,
    };
  }
}

const MAXIMUM_NAME = 256;

interface NewSession extends Admission {
  readonly sessionId: string;
  readonly expiresAt: Date;
}

function sessionEnd({ holder, grant }: Admission, now: Date): Date {
  const maximumMs = Number(grant.session?.maximum?.seconds ?? 0) * 1000;
  const grantEnds = grant.expiresAt === undefined ? now : timestampDate(grant.expiresAt);
  const ends = [holder.endsAt.getTime(), grantEnds.getTime(), now.getTime() + maximumMs];
  return new Date(Math.min(...ends));
}

async function insertSession(
  tx: Transaction,
  { gateway, request, now }: Attempt,
  { holder, grant, sessionId, expiresAt }: NewSession,
): Promise<void> {
  await tx.run(
    `insert into sessions (id, gateway_id, backend, grant_name, spiffe_id, svid_serial, entry_id,
       agent_id, owner, purpose, client_address, opened_at_ms, expires_at_ms, lease_ms)
     values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    sessionId,
    gateway,
    grant.backend,
    grant.name,
    holder.spiffeId,
    holder.serial,
    holder.entryId,
    holder.agentId,
    holder.owner,
    holder.purpose,
    request.clientAddress,
    now.getTime(),
    expiresAt.getTime(),
    now.getTime(),
  );
}

function openedEvent(
  { gateway, request }: Attempt,
  { holder, grant, sessionId, expiresAt }: NewSession,
): EventInit {
  return {
    type: 'session.opened',
    outcome: Outcome.SUCCESS,
    actor: { kind: 'gateway', spiffeId: gateway, address: request.clientAddress },
    sessionId,
    grant: grant.name,
    backend: grant.backend,
    spiffeId: holder.spiffeId,
    svidSerial: holder.serial,
    agentId: holder.agentId,
    entryId: holder.entryId,
    attributes: {
      owner: holder.owner,
      purpose: holder.purpose,
      environment: holder.environment,
      expires_at: expiresAt.toISOString(),
    },
  };
}
