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

/** Every event that a gateway writes; what the server decides (open, close) it writes itself. */
export class GatewayAudit {
  readonly #spool: EventSpool;
  readonly #counted: CountedEvents;
  readonly #log: Logger;

  constructor(spool: EventSpool, options: { readonly clock: Clock; readonly log: Logger }) {
    this.#spool = spool;
    this.#counted = new CountedEvents(spool, options.clock);
    this.#log = options.log;
  }

  /** @throws Fault AUDIT_UNWRITABLE if events can be kept no more: then no session may open */
  requireRoom(): void {
    this.#spool.requireRoom();
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
    this.#append({
      ...ofSession(session),
      type: 'recording.failed',
      outcome: Outcome.FAILURE,
      reason: 'the record could not be written, so the session ended',
    });
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

  #count(key: string, event: EventInit): void {
    this.#attempt(() => this.#counted.add(key, event));
  }

  #append(event: EventInit): void {
    this.#attempt(() => this.#spool.append(event));
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
