/**
 * How a session comes to be: the gateway's own decision, then the server's, then the record. Each step
 * that fails leaves nothing open; the server is told of what it had opened already.
 */

import type { MessageInitShape } from '@bufbuild/protobuf';
import { timestampDate, timestampFromDate } from '@bufbuild/protobuf/wkt';
import type {
  OpenSessionRequestSchema,
  OpenSessionResponse,
} from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { Grant } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { RpcError } from '../../runtime/grpc-client.ts';
import type { Logger } from '../../runtime/log.ts';
import type { WatchedSource } from '../../runtime/watched.ts';
import type { GatewayApi } from '../access/gateway-api.ts';
import type { GatewayAudit } from '../access/gateway-audit.ts';
import type { Heartbeats } from '../access/heartbeats.ts';
import { printable, type Resolved, resolveGrant, type Wish } from '../access/resolve-grant.ts';
import { EMPTY_SNAPSHOT, type GatewaySnapshot } from '../access/snapshot.ts';
import type { GatewayMetrics } from '../metrics.ts';
import type { Recordings } from '../recording/recordings.ts';
import type { RecordingObserver } from '../recording/session-recording.ts';
import { Budget } from './budget.ts';
import type { DayUses } from './day-use.ts';
import {
  GatewaySession,
  type SessionEnd,
  type SessionInit,
  wireCounts,
} from './gateway-session.ts';
import type { SessionCloser } from './session-closer.ts';
import type { Session, SessionDesk, SessionIdentity, SessionRequest } from './session-desk.ts';
import type { Opening, SessionTable } from './session-table.ts';

export interface DeskOptions {
  readonly api: () => GatewayApi;
  readonly snapshot: WatchedSource<GatewaySnapshot>;
  readonly heartbeats: Heartbeats;
  readonly table: SessionTable;
  readonly closer: SessionCloser;
  readonly recordings: Recordings;
  readonly dayUses: DayUses;
  readonly audit: GatewayAudit;
  readonly hmacKey: Uint8Array;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: GatewayMetrics;
  /** Aborts when the gateway stops. */
  readonly signal: AbortSignal;
}

const MOST_ATTEMPTS = 3;
const CLIENT_NAMES = 16;
const CLIENT_CHARACTERS = 256;

/** The only way to a session. */
export function sessionDesk(options: DeskOptions): SessionDesk {
  const desk = new Desk(options);
  return { open: (request) => desk.open(request) };
}

class Desk {
  readonly #options: DeskOptions;

  constructor(options: DeskOptions) {
    this.#options = options;
  }

  async open(request: SessionRequest): Promise<Session> {
    try {
      return await this.#open(request);
    } catch (error) {
      const fault = Fault.from(error);
      this.#options.metrics.sessionsRefused.inc({ code: fault.code });
      const { log } = this.#options;
      const fields = {
        spiffe_id: String(request.peer.id),
        backend: printable(request.backend, 128),
        peer_addr: request.address,
        code: fault.code,
      };
      if (fault.code === 'INTERNAL') log.error({ ...fields, err: error }, 'session failed to open');
      else log.info({ ...fields, err: fault }, 'session refused');
      throw fault;
    }
  }

  async #open(request: SessionRequest): Promise<Session> {
    const { heartbeats, table, audit, signal } = this.#options;
    const resolved = this.#resolve(request);
    heartbeats.requireFresh(resolved.backend);
    audit.requireRoom();
    await heartbeats.caughtUp(signal);
    using opening = table.beginOpening(String(request.peer.id));
    const { answer, askedMs } = await this.#ask(request, resolved, opening);
    try {
      return this.#begin(request, resolved, { answer, askedMs, opening });
    } catch (error) {
      this.#takeBack(answer.sessionId, Fault.from(error).message);
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
    { backend }: Resolved,
    opening: Opening,
  ): Promise<{ answer: OpenSessionResponse; askedMs: number }> {
    const { api, clock, signal } = this.#options;
    for (let attempt = 1; attempt <= MOST_ATTEMPTS; attempt += 1) {
      opening.restart();
      const askedMs = clock.monotonicMs();
      const init = {
        backend: backend.name,
        // The client's own words: an SSH client has signed them.
        grant: request.grant,
        clientAddress: request.address,
        login: request.login ?? '',
        ...proofOf(request),
      };
      const answer = await api().openSession(init, { signal }).catch(refused);
      if (!opening.isVoid) return { answer, askedMs };
      this.#takeBack(answer.sessionId, 'the gateway connected anew while the session was opened');
    }
    throw new Fault('UNAVAILABLE', 'the gateway was cut off from its server: try again');
  }

  /** From the answer to a live session, in one turn of the event loop: nothing can come between. */
  #begin(
    request: SessionRequest,
    resolved: Resolved,
    { answer, askedMs, opening }: Asked,
  ): GatewaySession {
    const { heartbeats, recordings, snapshot, metrics } = this.#options;
    heartbeats.requireTrueTime();
    const init = this.#checkAnswer(request, resolved, { answer, askedMs });
    if (!snapshot.value.grants.has(init.grant.name)) {
      throw new Fault('PERMISSION_DENIED', `the grant ${init.grant.name} was changed or deleted`);
    }
    let session: GatewaySession | undefined;
    const observer = this.#observer(init, (fault) => session?.terminate(fault, 'recording'));
    const recording = recordings.open(answer.sessionId, observer);
    let remove = () => {};
    session = new GatewaySession(init, recording, (end, hash) => {
      remove();
      this.#closed(init, { end, hash, counts: wireCounts(created.counts), askedMs });
    });
    const created = session;
    try {
      recording.write({ case: 'opened', value: openedEvent(request, init) });
      remove = opening.admit(session);
    } catch (error) {
      recording.seal();
      throw error;
    }
    metrics.sessionsActive.inc({ backend: init.backend.name });
    return session;
  }

  /** The server's answer must be about what was asked; its end is never later than the SVID's. */
  #checkAnswer(
    { peer }: SessionRequest,
    { grant, backend }: Resolved,
    { answer, askedMs }: { answer: OpenSessionResponse; askedMs: number },
  ): SessionInit {
    const { hmacKey } = this.#options;
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
    return {
      subjects: subjectsOf(answer, granted),
      grant: granted,
      backend,
      identity: identityOf(answer),
      expiresAt: end,
      deadlineMs: askedMs + leftMs,
      hmacKey,
      budget: this.#budgetOf(spiffeId, granted),
    };
  }

  /** @throws Fault UNAVAILABLE if what the day has used is not known */
  #budgetOf(spiffeId: string, { name, session }: Grant): Budget {
    const { dayUses } = this.#options;
    return new Budget(session, Budget.isByDay(session) ? dayUses.of(spiffeId, name) : undefined);
  }

  #observer(init: SessionInit, fail: (fault: Fault) => void): RecordingObserver {
    const { audit, log, metrics } = this.#options;
    return {
      wrote: (bytes) => metrics.recordedBytes.inc({}, bytes),
      denied: (what, rule) => audit.ruleDenied(init.subjects, what, rule),
      sealed: (segment) => audit.segmentSealed(init.subjects, segment),
      failed: (fault) => {
        log.error({ session_id: init.subjects.sessionId, err: fault }, 'recording failed');
        audit.recordingFailed(init.subjects);
        fail(fault);
      },
    };
  }

  #closed(init: SessionInit, closed: Closed): void {
    const { clock, closer, log, metrics } = this.#options;
    const { end, hash, counts } = closed;
    const backend = init.backend.name;
    metrics.sessionsActive.dec({ backend });
    metrics.sessionsEnded.inc({ backend, cause: end.cause });
    metrics.sessionDuration.observe((clock.monotonicMs() - closed.askedMs) / 1000, { backend });
    const { sessionId } = init.subjects;
    closer.close({ sessionId, reason: end.reason, ...counts, recordingHash: hash });
    log.info({ session_id: sessionId, backend, cause: end.cause }, 'session ended');
  }

  #takeBack(sessionId: string, reason: string): void {
    this.#options.closer.close({ sessionId, reason });
  }
}

interface Asked {
  readonly answer: OpenSessionResponse;
  /** Before the server stamped its time. */
  readonly askedMs: number;
  readonly opening: Opening;
}

interface Closed {
  readonly end: SessionEnd;
  readonly hash: Uint8Array;
  readonly counts: ReturnType<typeof wireCounts>;
  readonly askedMs: number;
}

function wishOf({ backend, grant, login, peer }: SessionRequest): Wish {
  const wish = { backend, grant, spiffeId: String(peer.id) };
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

function subjectsOf(answer: OpenSessionResponse, grant: Grant): SessionInit['subjects'] {
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

function identityOf(answer: OpenSessionResponse): SessionIdentity {
  const { spiffeId, owner, purpose, environment, entryId, agentId, svidSerial: serial } = answer;
  return { spiffeId, owner, purpose, environment, entryId, agentId, serial };
}

function openedEvent(request: SessionRequest, { subjects, identity, expiresAt }: SessionInit) {
  const login = request.login === undefined ? [] : [['login', request.login]];
  const client = [...login, ...Object.entries(request.client).filter(([name]) => name !== 'login')]
    .slice(0, CLIENT_NAMES)
    .map((pair) => pair.map((text) => printable(text, CLIENT_CHARACTERS)));
  return {
    sessionId: subjects.sessionId,
    spiffeId: subjects.spiffeId,
    svidSerial: subjects.serial,
    owner: identity.owner,
    purpose: identity.purpose,
    grant: subjects.grant,
    backend: subjects.backend,
    clientAddress: request.address,
    expiresAt: timestampFromDate(expiresAt),
    client: Object.fromEntries(client) as Record<string, string>,
    reason: printable(request.client.reason ?? '', CLIENT_CHARACTERS),
  };
}
