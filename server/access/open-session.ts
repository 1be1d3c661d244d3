/**
 * Opens sessions. The server decides the grant again, whatever the gateway found (threats S2): a gateway
 * that was taken over opens nothing for a client that is not there, and nothing that was revoked.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { Bundle } from '../../identity/bundle.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type {
  OpenSessionRequest,
  OpenSessionResponseSchema,
} from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { DenialLimiter } from '../../runtime/denial-limiter.ts';
import { Fault } from '../../runtime/fault.ts';
import type { WatchedSource } from '../../runtime/watched.ts';
import type { AuditLog, EventInit } from '../audit/audit-log.ts';
import type { Datastore, Transaction } from '../plugins/datastore/datastore.ts';
import { SharedTransactions } from '../plugins/datastore/shared-transactions.ts';
import { verifyClientProof } from './client-proof.ts';
import { type AccessWish, type Admission, admissionEnd, decideAccess } from './decide-access.ts';
import type { SshAuthorities } from './gateway-snapshot.ts';
import { GrantIndex } from './grant-index.ts';
import type { Credential } from './holder.ts';
import { randomId } from './random-id.ts';
import { isRefusal, type Refusal } from './refusal.ts';

type Opened = MessageInitShape<typeof OpenSessionResponseSchema>;

export interface SessionOpenerOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly bundle: WatchedSource<Bundle>;
  readonly sshAuthorities: WatchedSource<SshAuthorities>;
  /** See `ProofRule`. */
  isIssuedHere(chain: readonly Uint8Array[]): boolean;
}

interface Attempt {
  /** The gateway's SPIFFE ID. */
  readonly gateway: string;
  readonly request: OpenSessionRequest;
  /** Of the call, for its event. */
  readonly requestId: string | undefined;
  readonly now: Date;
  /** Whether a refusal of this key is to be written down; the same however often it is asked. */
  isDue(...key: readonly string[]): boolean;
}

/** Decides and writes down new sessions. */
export class SessionOpener {
  readonly #options: SessionOpenerOptions;
  readonly #denials: DenialLimiter;
  readonly #grants = new GrantIndex();
  readonly #transactions: SharedTransactions;

  constructor(options: SessionOpenerOptions) {
    this.#options = options;
    this.#denials = new DenialLimiter(options.clock);
    this.#transactions = SharedTransactions.of(options.store);
  }

  /**
   * Resolves once the session's row and event are committed; so is the event of a refusal.
   * @param gateway SPIFFE ID of the caller, authenticated
   * @throws Fault PERMISSION_DENIED, whose message is for the client
   */
  async open(gateway: string, request: OpenSessionRequest, requestId?: string): Promise<Opened> {
    const { bundle, sshAuthorities, isIssuedHere, clock } = this.#options;
    const now = clock.now();
    let due: boolean | undefined;
    const isDue = (...key: readonly string[]) => {
      due ??= this.#denials.admit(...key);
      return due;
    };
    const attempt = { gateway, request, requestId, now, isDue };
    const rule = { bundle: bundle.value, sshAuthorities: sshAuthorities.value, isIssuedHere, now };
    const credential = verifyClientProof(request, rule);
    const { backend, grant, login } = request;
    const outcome = await this.#transactions.run(async (tx) => {
      const admission = isRefusal(credential)
        ? credential
        : await this.#decide(tx, { gateway, credential, backend, grant, login }, now);
      return isRefusal(admission)
        ? this.#deny(tx, attempt, credential, admission)
        : this.#admit(tx, attempt, admission);
    });
    if (isRefusal(outcome)) {
      throw new Fault('PERMISSION_DENIED', outcome.says, { cause: outcome.cause });
    }
    return outcome;
  }

  async #decide(tx: Transaction, wish: Omit<AccessWish, 'grants'>, now: Date) {
    const grants = await this.#grants.heldBy(tx, wish.credential.id.toString());
    return decideAccess(tx, { ...wish, grants }, now);
  }

  async #deny(
    tx: Transaction,
    { gateway, request, requestId, isDue }: Attempt,
    credential: Credential | Refusal,
    why: Refusal,
  ): Promise<Refusal> {
    const known = isRefusal(credential)
      ? {}
      : { spiffeId: credential.id.toString(), svidSerial: credential.serial };
    const backend = request.backend.slice(0, MAXIMUM_NAME);
    const login = request.login.slice(0, MAXIMUM_NAME);
    if (isDue(known.svidSerial ?? gateway, backend, why.cause)) {
      await this.#options.audit.append(tx, {
        type: 'session.denied',
        outcome: Outcome.DENIED,
        actor: {
          kind: 'gateway',
          spiffeId: gateway,
          address: request.clientAddress.slice(0, MAXIMUM_NAME),
          requestId,
        },
        backend,
        grant: request.grant.slice(0, MAXIMUM_NAME),
        reason: why.says,
        attributes: { cause: why.cause, ...(login !== '' && { login }) },
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
const MAXIMUM_REASON = 256;

interface NewSession extends Admission {
  readonly sessionId: string;
  readonly expiresAt: Date;
}

function sessionEnd(admission: Admission, now: Date): Date {
  const maximumMs = Number(admission.grant.session?.maximum?.seconds ?? 0) * 1000;
  return new Date(Math.min(admissionEnd(admission, now).getTime(), now.getTime() + maximumMs));
}

async function insertSession(
  tx: Transaction,
  { gateway, request, now }: Attempt,
  { holder, grant, sessionId, expiresAt }: NewSession,
): Promise<void> {
  await tx.run(
    `insert into sessions (id, gateway_id, backend, grant_name, spiffe_id, svid_serial, entry_id,
       agent_id, owner, purpose, client_address, login, reason, opened_at_ms, expires_at_ms, lease_ms)
     values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
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
    request.login,
    request.reason.slice(0, MAXIMUM_REASON),
    now.getTime(),
    expiresAt.getTime(),
    now.getTime(),
  );
}

function openedEvent(
  { gateway, request, requestId }: Attempt,
  { holder, grant, sessionId, expiresAt }: NewSession,
): EventInit {
  return {
    type: 'session.opened',
    outcome: Outcome.SUCCESS,
    actor: { kind: 'gateway', spiffeId: gateway, address: request.clientAddress, requestId },
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
      ...(request.login !== '' && { login: request.login }),
      ...(request.reason !== '' && { reason: request.reason.slice(0, MAXIMUM_REASON) }),
    },
  };
}
