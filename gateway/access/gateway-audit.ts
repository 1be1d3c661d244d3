import type { ConnectionRefusal } from '../../identity/tls.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Logger } from '../../runtime/log.ts';
import { CountedEvents } from './counted-events.ts';
import type { EventInit, EventSpool } from './event-spool.ts';
import { printable } from './resolve-grant.ts';

const NAME_CHARACTERS = 128;
const REASON_CHARACTERS = 300;

/** What an event tells of the session that it is about. */
export interface AuditedSession {
  readonly sessionId: string;
  readonly grant: string;
  readonly backend: string;
  readonly spiffeId: string;
  readonly serial: string;
  readonly agentId: string;
  readonly entryId: string;
}

/** Where events go: an `EventSpool`, or the process that has it. */
export type AuditSink = Pick<EventSpool, 'append' | 'requireRoom'>;

/** Every event that a gateway writes; what the server decides (open, close) it writes itself. */
export class GatewayAudit {
  readonly #sink: AuditSink;
  readonly #counted: CountedEvents;
  readonly #log: Logger;

  constructor(sink: AuditSink, options: { readonly clock: Clock; readonly log: Logger }) {
    this.#sink = sink;
    this.#counted = new CountedEvents(sink, options.clock);
    this.#log = options.log;
  }

  /** @throws Fault AUDIT_UNWRITABLE if events can be kept no more: then no session may open */
  requireRoom(): void {
    this.#sink.requireRoom();
  }

  connectionRefused({ address, port, reason }: ConnectionRefusal): void {
    this.#count(`connection ${address} ${port} ${reason}`, {
      type: 'connection.refused',
      outcome: Outcome.DENIED,
      actor: { kind: 'unknown', address },
      reason,
      attributes: { port: String(port) },
    });
  }

  sessionDenied(request: DeniedRequest, reason: string): void {
    const spiffeId = String(request.peer.id);
    const backend = printable(request.backend, NAME_CHARACTERS);
    const grant = printable(request.grant, NAME_CHARACTERS);
    const login = printable(request.login ?? '', NAME_CHARACTERS);
    this.#count(`session ${spiffeId} ${backend} ${grant} ${login} ${reason}`, {
      type: 'session.denied',
      outcome: Outcome.DENIED,
      actor: { kind: 'workload', spiffeId, address: request.address },
      spiffeId,
      svidSerial: request.peer.serial,
      backend,
      grant,
      reason,
      ...(login === '' ? {} : { attributes: { login } }),
    });
  }

  /** @param rule names what refused it; no text of the client's */
  ruleDenied(session: AuditedSession, what: 'statement' | 'channel', rule: string): void {
    const reason = printable(rule, REASON_CHARACTERS);
    this.#count(`${what} ${session.sessionId} ${reason}`, {
      ...ofSession(session),
      type: `session.${what}.denied`,
      outcome: Outcome.DENIED,
      reason,
    });
  }

  /** Something was shown that should not have been; `unmasked` is a wall that did not hold. */
  found(
    session: AuditedSession,
    finding: { readonly isUnmasked: boolean; readonly name: string; readonly count: bigint },
  ): void {
    const name = printable(finding.name, REASON_CHARACTERS);
    if (finding.isUnmasked) {
      this.#append({
        ...ofSession(session),
        type: 'session.unmasked',
        outcome: Outcome.FAILURE,
        reason: `a classified column came past its mask: ${name}`,
        attributes: { column: name },
      });
      return;
    }
    this.#count(`found ${session.sessionId} ${name}`, {
      ...ofSession(session),
      type: 'session.detected',
      outcome: Outcome.SUCCESS,
      reason: `shown, and found by the detector ${name}`,
      attributes: { detector: name, values: String(finding.count) },
    });
  }

  segmentSealed(
    session: AuditedSession,
    segment: { readonly number: number; readonly hash: Uint8Array },
  ): void {
    this.#append({
      ...ofSession(session),
      type: 'recording.segment.sealed',
      outcome: Outcome.SUCCESS,
      attributes: {
        segment: String(segment.number),
        hash: Buffer.from(segment.hash).toString('hex'),
      },
    });
  }

  recordingFailed(session: AuditedSession): void {
    this.#recordFailed(session, 'the record could not be written, so the session ended');
  }

  /** What had reached the record's file is there, without a seal. */
  recordingAbandoned(session: AuditedSession): void {
    this.#recordFailed(session, 'the process that wrote the record died, so it has no seal');
  }

  /** Sessions of a backend ended because the server was silent (threats S6). */
  endedStale(session: AuditedSession, silentSeconds: number): void {
    this.#append({
      ...ofSession(session),
      type: 'session.ended.stale',
      outcome: Outcome.SUCCESS,
      reason: `nothing heard from the server for ${silentSeconds} s`,
    });
  }

  /** Writes counts that are due. Called each second. */
  tick(): void {
    this.#attempt(() => this.#counted.tick());
  }

  /** Writes all counts, before the end. */
  flush(): void {
    this.#attempt(() => this.#counted.flush());
  }

  #recordFailed(session: AuditedSession, reason: string): void {
    const type = 'recording.failed';
    this.#append({ ...ofSession(session), type, outcome: Outcome.FAILURE, reason });
  }

  #count(key: string, event: EventInit): void {
    this.#attempt(() => this.#counted.add(key, event));
  }

  #append(event: EventInit): void {
    this.#attempt(() => this.#sink.append(event));
  }

  /** What is told here has happened or was refused already: an event that is lost changes nothing of it. */
  #attempt(write: () => void): void {
    try {
      write();
    } catch (error) {
      const { code } = Fault.from(error);
      this.#log.error({ code, err: error }, 'audit event lost');
    }
  }
}

/** What a client wanted that has proved who it is. */
export interface DeniedRequest {
  /** These three are untrusted; empty where it has not come to them. */
  readonly backend: string;
  readonly grant: string;
  readonly login?: string;
  readonly peer: { readonly id: { toString(): string }; readonly serial: string };
  readonly address: string;
}

function ofSession(session: AuditedSession): EventInit {
  const { sessionId, grant, backend, spiffeId, serial, agentId, entryId } = session;
  return {
    actor: { kind: 'workload', spiffeId },
    sessionId,
    grant,
    backend,
    spiffeId,
    svidSerial: serial,
    agentId,
    entryId,
  };
}
