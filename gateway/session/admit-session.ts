/**
 * Whether a session may be: the gateway's own decision, then the server's, then a place in the table of
 * all sessions. Each step that fails leaves nothing open; the server is told of what it had opened already.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import { timestampDate } from '@bufbuild/protobuf/wkt';
import type {
  OpenSessionRequestSchema,
  OpenSessionResponse,
} from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { Backend, Grant } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { RpcError } from '../../runtime/grpc-client.ts';
import type { WatchedSource } from '../../runtime/watched.ts';
import type { GatewayApi } from '../access/gateway-api.ts';
import type { GatewayAudit } from '../access/gateway-audit.ts';
import type { Heartbeats } from '../access/heartbeats.ts';
import { printable, type Resolved, resolveGrant, type Wish } from '../access/resolve-grant.ts';
import { EMPTY_SNAPSHOT, type GatewaySnapshot } from '../access/snapshot.ts';
import type { EndCause } from '../metrics.ts';
import type { CloseInit, SessionCloser } from './session-closer.ts';
import type { SessionRequest } from './session-desk.ts';
import type { LiveSession, Opening, SessionSubjects, SessionTable } from './session-table.ts';

export interface AdmissionOptions {
  readonly api: () => GatewayApi;
  readonly snapshot: WatchedSource<GatewaySnapshot>;
  readonly heartbeats: Heartbeats;
  readonly table: SessionTable;
  readonly closer: SessionCloser;
  readonly audit: GatewayAudit;
  readonly clock: Clock;
  /** Aborts when the gateway stops. */
  readonly signal: AbortSignal;
}

/** Told at most once, perhaps before `admit` resolves: the session must end now. Must not throw. */
export type OnEnd = (fault: Fault, cause: EndCause) => void;

/** How a session ended, for the server. */
export type SessionClosing = Omit<CloseInit, 'sessionId' | '$typeName'>;

/** A session that the server has committed and that counts as live until it is closed. */
export interface AdmittedSession {
  /** Whatever is in it has been checked against what was asked. */
  readonly answer: OpenSessionResponse;
  readonly subjects: SessionSubjects;
  readonly grant: Grant;
  readonly backend: Backend;
  readonly expiresAt: Date;
  /** Idempotent. */
  close(how: SessionClosing): void;
}

/** Lets sessions in: here, or in the process that does so for all workers. */
export interface SessionAdmission {
  /**
   * @throws Fault PERMISSION_DENIED, UNAVAILABLE, RESOURCE_EXHAUSTED or AUDIT_UNWRITABLE; nothing is
   * open then
   */
  admit(request: SessionRequest, onEnd: OnEnd): Promise<AdmittedSession>;
}

const MOST_ATTEMPTS = 3;
const REASON_CHARACTERS = 256;

/** The one that decides. */
export function sessionAdmission(options: AdmissionOptions): SessionAdmission {
  const admission = new Admission(options);
  return { admit: (request, onEnd) => admission.admit(request, onEnd) };
}

class Admission {
  readonly #options: AdmissionOptions;

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  async admit(request: SessionRequest, onEnd: OnEnd): Promise<AdmittedSession> {
    const { heartbeats, table, audit, signal } = this.#options;
    const resolved = this.#resolve(request);
    heartbeats.requireFresh(resolved.backend);
    audit.requireRoom();
    await heartbeats.caughtUp(signal);
    using opening = table.beginOpening(String(request.peer.id));
    const asked = await this.#ask(request, resolved, opening);
    try {
      return this.#enter(request, resolved, { ...asked, opening, onEnd });
    } catch (error) {
      this.#takeBack(asked.answer.sessionId, Fault.from(error).message);
      throw error;
    }
  }

  /** @throws Fault PERMISSION_DENIED, once it is in the audit log; UNAVAILABLE before the first snapshot */
  #resolve(request: SessionRequest): Resolved {
    const { heartbeats, snapshot, audit } = this.#options;
    const now = heartbeats.serverNow();
    if (now === undefined || snapshot.value === EMPTY_SNAPSHOT) {
      throw new Fault('UNAVAILABLE', 'the gateway is starting: it has not heard from its server');
    }
    try {
      return resolveGrant(snapshot.value, wishOf(request), now);
    } catch (error) {
      audit.sessionDenied(request, Fault.from(error).message);
      throw error;
    }
  }

  /** Asks until no Hello crossed the answer: the server closes what a Hello did not list. */
  async #ask(
    request: SessionRequest,
    { backend, grant }: Resolved,
    opening: Opening,
  ): Promise<{ answer: OpenSessionResponse; askedMs: number }> {
    const { api, clock, signal } = this.#options;
    for (let attempt = 1; attempt <= MOST_ATTEMPTS; attempt += 1) {
      opening.restart();
      const askedMs = clock.monotonicMs();
      const init = {
        backend: backend.name,
        // The client's own words: an SSH client has signed them.
        grant: choosesByDatabase(backend) ? grant.name : request.grant,
        clientAddress: request.address,
        login: request.login ?? '',
        reason: printable(request.client.reason ?? '', REASON_CHARACTERS),
        ...proofOf(request),
      };
      const answer = await api().openSession(init, { signal }).catch(refused);
      if (!opening.isVoid) return { answer, askedMs };
      this.#takeBack(answer.sessionId, 'the gateway connected anew while the session was opened');
    }
    throw new Fault('UNAVAILABLE', 'the gateway was cut off from its server: try again');
  }

  /** From the answer to a live session, in one turn of the event loop: nothing can come between. */
  #enter(
    request: SessionRequest,
    resolved: Resolved,
    { answer, askedMs, opening, onEnd }: Asked & { readonly opening: Opening; onEnd: OnEnd },
  ): AdmittedSession {
    const { heartbeats, snapshot, closer } = this.#options;
    heartbeats.requireTrueTime();
    const { grant, ...terms } = checkedTerms(request, resolved, { answer, askedMs });
    if (!snapshot.value.grants.has(grant.name)) {
      throw new Fault('PERMISSION_DENIED', `the grant ${grant.name} was changed or deleted`);
    }
    const { backend } = resolved;
    const subjects = subjectsOf(answer, grant);
    const leave = opening.admit(new HeldSession({ subjects, backend, ...terms }, onEnd));
    let isClosed = false;
    return {
      ...{ answer, subjects, grant, backend, expiresAt: terms.expiresAt },
      close(how) {
        if (isClosed) return;
        isClosed = true;
        leave();
        closer.close({ sessionId: subjects.sessionId, ...how });
      },
    };
  }

  #takeBack(sessionId: string, reason: string): void {
    this.#options.closer.close({ sessionId, reason });
  }
}

interface Asked {
  readonly answer: OpenSessionResponse;
  /** Before the server stamped its time. */
  readonly askedMs: number;
}

/** A session as the table holds it, wherever it runs. */
class HeldSession implements LiveSession {
  readonly subjects: SessionSubjects;
  readonly backend: Backend;
  readonly expiresAt: Date;
  readonly deadlineMs: number;
  readonly #onEnd: OnEnd;
  #hasEnded = false;

  constructor(
    init: Pick<LiveSession, 'subjects' | 'backend' | 'expiresAt' | 'deadlineMs'>,
    onEnd: OnEnd,
  ) {
    this.subjects = init.subjects;
    this.backend = init.backend;
    this.expiresAt = init.expiresAt;
    this.deadlineMs = init.deadlineMs;
    this.#onEnd = onEnd;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  terminate(fault: Fault, cause: EndCause): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#onEnd(fault, cause);
  }
}

/** The server's answer must be about what was asked; its end is never later than the SVID's. */
function checkedTerms(
  { peer }: SessionRequest,
  { grant, backend }: Resolved,
  { answer, askedMs }: Asked,
): { readonly grant: Grant; readonly expiresAt: Date; readonly deadlineMs: number } {
  const { grant: granted, expiresAt, serverTime } = answer;
  const spiffeId = String(peer.id);
  const fits =
    answer.spiffeId === spiffeId &&
    answer.svidSerial === peer.serial &&
    granted?.backend === backend.name &&
    granted.identity === spiffeId;
  if (!fits || granted === undefined || expiresAt === undefined || serverTime === undefined) {
    throw new Error('OpenSession was answered with another session');
  }
  if (granted.name !== grant.name) {
    throw new Fault('UNAVAILABLE', 'the grants have just changed: try again');
  }
  const end = new Date(Math.min(timestampDate(expiresAt).getTime(), peer.notAfter.getTime()));
  const leftMs = end.getTime() - timestampDate(serverTime).getTime();
  if (leftMs <= 0) throw new Fault('PERMISSION_DENIED', 'the session would have ended already');
  return { grant: granted, expiresAt: end, deadlineMs: askedMs + leftMs };
}

/** The server knows no `dbname`: where that chose between grants, the choice is told by its name. */
function choosesByDatabase({ type }: Backend): boolean {
  return type.case === 'postgres' && Object.keys(type.value.databases).length > 0;
}

function wishOf({ backend, serverName, grant, login, peer }: SessionRequest): Wish {
  const spiffeId = String(peer.id);
  const wish = { backend, grant, spiffeId, ...(serverName !== undefined && { serverName }) };
  return login === undefined ? wish : { ...wish, login };
}

function proofOf({
  peer: { proof },
}: SessionRequest): Pick<
  MessageInitShape<typeof OpenSessionRequestSchema>,
  'clientChain' | 'sshProof'
> {
  if (proof.case === 'x509') return { clientChain: [...proof.chain] };
  const { certificate, signedData, signature } = proof;
  return { sshProof: { certificate, signedData, signature } };
}

/** What the client may know of the server's refusal. */
function refused(error: unknown): never {
  if (!(error instanceof RpcError)) throw error;
  switch (error.faultCode) {
    case 'PERMISSION_DENIED':
    case 'NOT_FOUND':
    case 'FAILED_PRECONDITION':
    case 'RESOURCE_EXHAUSTED':
    case 'AUDIT_UNWRITABLE':
      throw new Fault(error.faultCode, error.message, { cause: error });
    default:
      throw new Fault('UNAVAILABLE', 'the gateway got no answer from its server: no session', {
        cause: error,
      });
  }
}

/** What revocations may name of it. */
export function subjectsOf(answer: OpenSessionResponse, grant: Grant): SessionSubjects {
  return {
    sessionId: answer.sessionId,
    grant: grant.name,
    entryId: answer.entryId,
    spiffeId: answer.spiffeId,
    agentId: answer.agentId,
    serial: answer.svidSerial,
    backend: grant.backend,
  };
}
