import type { Grant } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { EndCause } from '../metrics.ts';
import type { Recorder } from '../recording/recorder.ts';
import type { SessionRecording } from '../recording/session-recording.ts';
import type { Budget } from './budget.ts';
import type { Session, SessionCounts, SessionIdentity } from './session-desk.ts';
import type { SessionSubjects } from './session-table.ts';

export interface SessionInit {
  readonly subjects: SessionSubjects;
  readonly grant: Grant;
  readonly backend: Session['backend'];
  readonly identity: SessionIdentity;
  readonly expiresAt: Date;
  readonly hmacKey: Uint8Array;
  readonly budget: Budget;
}

/** How a session ended. */
export interface SessionEnd {
  readonly cause: EndCause;
  /** For people: the client, the record, the audit log. */
  readonly reason: string;
}

/**
 * A session from its opening to its end. Whoever ends it first (deadline, revocation, staleness, record,
 * protocol) gives the reason; the rest follows from the abort of `signal`.
 */
export class GatewaySession implements Session {
  readonly subjects: SessionSubjects;
  readonly grant: Grant;
  readonly backend: Session['backend'];
  readonly identity: SessionIdentity;
  readonly expiresAt: Date;
  readonly hmacKey: Uint8Array;
  readonly budget: Budget;
  readonly counts: SessionCounts = { bytesUp: 0, bytesDown: 0, rows: 0, statements: 0 };
  readonly #abort = new AbortController();
  readonly #onClosed: (end: SessionEnd, recordingHash: Uint8Array) => void;
  readonly #recording: SessionRecording;
  #end: SessionEnd | undefined;
  #isClosed = false;

  constructor(
    init: SessionInit,
    recording: SessionRecording,
    /** Called once, when the record is sealed. Must not throw. */
    onClosed: (end: SessionEnd, recordingHash: Uint8Array) => void,
  ) {
    this.subjects = init.subjects;
    this.grant = init.grant;
    this.backend = init.backend;
    this.identity = init.identity;
    this.expiresAt = init.expiresAt;
    this.hmacKey = init.hmacKey;
    this.budget = init.budget;
    this.#recording = recording;
    this.#onClosed = onClosed;
  }

  get id(): string {
    return this.subjects.sessionId;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get recorder(): Recorder {
    return this.#recording;
  }

  end(reason: string): void {
    this.terminate(new Fault('UNAVAILABLE', reason), 'finished');
  }

  /** Counts its time, and ends it where that was all. */
  tick(nowMs: number): void {
    if (this.#end !== undefined) return;
    try {
      this.budget.tick(nowMs);
    } catch (error) {
      this.terminate(Fault.from(error), 'budget');
    }
  }

  /** The first call counts. */
  terminate(fault: Fault, cause: EndCause): void {
    if (this.#end !== undefined) return;
    this.#end = { cause, reason: fault.message };
    this.#abort.abort(fault);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.end('the connection was closed');
    const end = this.#end ?? { cause: 'finished', reason: '' };
    this.#onClosed(end, this.#sealRecord(end.reason));
  }

  #sealRecord(reason: string): Uint8Array {
    const counts = wireCounts(this.counts);
    try {
      this.#recording.write({ case: 'closed', value: { reason, ...counts } });
    } catch {
      // A record that failed has ended the session already; `seal` leaves it without a seal.
    }
    return this.#recording.seal();
  }
}

/** The counts as messages carry them. */
export function wireCounts(counts: SessionCounts): Record<keyof SessionCounts, bigint> {
  return {
    bytesUp: BigInt(counts.bytesUp),
    bytesDown: BigInt(counts.bytesDown),
    rows: BigInt(counts.rows),
    statements: BigInt(counts.statements),
  };
}
