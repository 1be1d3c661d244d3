/**
 * How a session comes to be where its client is: once it is admitted, its record and its budgets. Each
 * step that fails leaves nothing open.
 */

import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { OpenSessionResponse } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { Grant } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Logger } from '../../runtime/log.ts';
import type { GatewayAudit } from '../access/gateway-audit.ts';
import { printable } from '../access/resolve-grant.ts';
import type { GatewayMetrics } from '../metrics.ts';
import type { Recordings } from '../recording/recordings.ts';
import type { RecordingObserver } from '../recording/session-recording.ts';
import type { AdmittedSession, SessionAdmission } from './admit-session.ts';
import { Budget } from './budget.ts';
import type { DayUses } from './day-use.ts';
import {
  GatewaySession,
  type SessionEnd,
  type SessionInit,
  wireCounts,
} from './gateway-session.ts';
import type { Session, SessionDesk, SessionIdentity, SessionRequest } from './session-desk.ts';

export interface DeskOptions {
  readonly admission: SessionAdmission;
  readonly recordings: Recordings;
  readonly dayUses: DayUses;
  readonly audit: GatewayAudit;
  readonly hmacKey: Uint8Array;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: GatewayMetrics;
}

/** A desk whose sessions' time somebody counts. */
export interface TickedDesk extends SessionDesk {
  /** Ends sessions that have used up their time. Called ten times a second. */
  tick(): void;
}

const CLIENT_NAMES = 16;
const CLIENT_CHARACTERS = 256;

/** The only way to a session. */
export function sessionDesk(options: DeskOptions): TickedDesk {
  const desk = new Desk(options);
  return { open: (request) => desk.open(request), tick: () => desk.tick() };
}

class Desk {
  readonly #options: DeskOptions;
  readonly #live = new Set<GatewaySession>();

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
    const { admission, clock } = this.#options;
    const askedMs = clock.monotonicMs();
    let session: GatewaySession | undefined;
    let ended: Fault | undefined;
    const admitted = await admission.admit(request, (fault, cause) => {
      ended = fault;
      session?.terminate(fault, cause);
    });
    try {
      if (ended !== undefined) throw ended;
      session = this.#begin(request, admitted, askedMs);
      return session;
    } catch (error) {
      admitted.close({ reason: Fault.from(error).message });
      throw error;
    }
  }

  tick(): void {
    const nowMs = this.#options.clock.monotonicMs();
    for (const session of this.#live) session.tick(nowMs);
  }

  #begin(request: SessionRequest, admitted: AdmittedSession, askedMs: number): GatewaySession {
    const { recordings, metrics } = this.#options;
    const init = this.#initOf(request, admitted);
    let session: GatewaySession | undefined;
    const observer = this.#observer(init, (fault) => session?.terminate(fault, 'recording'));
    const recording = recordings.open(init.subjects.sessionId, observer);
    session = new GatewaySession(init, recording, (end, hash) => {
      this.#live.delete(created);
      const counts = wireCounts(created.counts);
      this.#closed(init, { admitted, end, hash, counts, askedMs });
    });
    const created = session;
    try {
      recording.write({ case: 'opened', value: openedEvent(request, init) });
    } catch (error) {
      recording.seal();
      throw error;
    }
    this.#live.add(session);
    metrics.sessionsActive.inc({ backend: init.backend.name });
    return session;
  }

  #initOf({ peer }: SessionRequest, admitted: AdmittedSession): SessionInit {
    const { answer, subjects, grant, backend, expiresAt } = admitted;
    return {
      ...{ subjects, grant, backend, expiresAt },
      identity: identityOf(answer),
      hmacKey: this.#options.hmacKey,
      budget: this.#budgetOf(String(peer.id), grant),
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
      found: (finding) => audit.found(init.subjects, finding),
      sealed: (segment) => audit.segmentSealed(init.subjects, segment),
      failed: (fault) => {
        log.error({ session_id: init.subjects.sessionId, err: fault }, 'recording failed');
        audit.recordingFailed(init.subjects);
        fail(fault);
      },
    };
  }

  #closed(init: SessionInit, closed: Closed): void {
    const { clock, log, metrics } = this.#options;
    const { admitted, end, hash, counts } = closed;
    const backend = init.backend.name;
    metrics.sessionsActive.dec({ backend });
    metrics.sessionsEnded.inc({ backend, cause: end.cause });
    metrics.sessionDuration.observe((clock.monotonicMs() - closed.askedMs) / 1000, { backend });
    const { sessionId } = init.subjects;
    admitted.close({ reason: end.reason, ...counts, recordingHash: hash });
    log.info({ session_id: sessionId, backend, cause: end.cause }, 'session ended');
  }
}

interface Closed {
  readonly admitted: AdmittedSession;
  readonly end: SessionEnd;
  readonly hash: Uint8Array;
  readonly counts: ReturnType<typeof wireCounts>;
  readonly askedMs: number;
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
