/**
 * All sessions of this gateway, found by whatever a revocation may name. A session that is on its way
 * (asked of the server, not answered yet) counts already: a revocation that overtakes the answer must
 * still hit it, and a Hello that could not list it makes it void.
 */
import type { Revocation, Subject } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { Backend } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { EndCause } from '../metrics.ts';

type SubjectKind = NonNullable<Subject['subject']['case']>;

/** What revocations may name of a session. */
export type SessionSubjects = Readonly<Record<SubjectKind, string>>;

/** What the table holds of a session. */
export interface LiveSession {
  readonly subjects: SessionSubjects;
  readonly backend: Backend;
  readonly expiresAt: Date;
  /** On the monotonic clock. */
  readonly deadlineMs: number;
  readonly hasEnded: boolean;
  /** Ends it now; the first call counts. Must not throw. */
  terminate(fault: Fault, cause: EndCause): void;
}

export interface SessionLimits {
  readonly total: number;
  readonly perIdentity: number;
}

export class SessionTable {
  readonly #limits: SessionLimits;
  readonly #bySubject = new Map<string, Set<LiveSession>>();
  readonly #sessions = new Map<string, LiveSession>();
  readonly #openings = new Set<OpeningState>();
  readonly #perIdentity = new Map<string, number>();
  #closed: Fault | undefined;
  #whenEmpty: (() => void)[] = [];

  constructor(limits: SessionLimits) {
    this.#limits = limits;
  }

  /** Ids of the live sessions. */
  get ids(): string[] {
    return [...this.#sessions.keys()];
  }

  /** Live sessions, as they stand now. */
  get sessions(): readonly LiveSession[] {
    return [...this.#sessions.values()];
  }

  /**
   * Takes a place for a session that is to be asked of the server.
   * @throws Fault RESOURCE_EXHAUSTED if the identity or the gateway has its fill; UNAVAILABLE if it stops
   */
  beginOpening(spiffeId: string): Opening {
    if (this.#closed !== undefined) throw this.#closed;
    if (this.#sessions.size + this.#openings.size >= this.#limits.total) {
      throw new Fault('RESOURCE_EXHAUSTED', 'the gateway has no place for another session');
    }
    const count = this.#perIdentity.get(spiffeId) ?? 0;
    if (count >= this.#limits.perIdentity) {
      const most = `${spiffeId} has its most of ${count} sessions open`;
      throw new Fault('RESOURCE_EXHAUSTED', most);
    }
    this.#perIdentity.set(spiffeId, count + 1);
    const state: OpeningState = { revocations: [], isVoid: false };
    this.#openings.add(state);
    const leave = () => this.#leave(spiffeId);
    return {
      get isVoid() {
        return state.isVoid;
      },
      restart: () => {
        state.isVoid = false;
      },
      admit: (session) => this.#admit(state, session, leave),
      [Symbol.dispose]: () => {
        if (this.#openings.delete(state)) leave();
      },
    };
  }

  /** Every opening that the server has committed but a Hello did not list is closed over there. */
  helloSent(): void {
    for (const opening of this.#openings) opening.isVoid = true;
  }

  /** Ends what the revocation names. @returns how many sessions that were live */
  apply(revocation: Revocation): number {
    for (const opening of this.#openings) opening.revocations.push(revocation);
    const { subject } = revocation.subject ?? {};
    if (subject?.case === undefined) return 0;
    return this.#terminate(subject.case, subject.value, revokedFault(revocation));
  }

  /** Ends the sessions of a grant that the snapshot no longer holds as it was. */
  endGrant(grant: string): number {
    const fault = new Fault('PERMISSION_DENIED', `the grant ${grant} was changed or deleted`);
    return this.#terminate('grant', grant, fault);
  }

  /** Ends every session and lets no other in. */
  close(fault: Fault): void {
    this.#closed = fault;
    for (const session of this.sessions) session.terminate(fault, 'stopping');
  }

  /** Resolves once no session is live. */
  async empty(): Promise<void> {
    if (this.#sessions.size === 0) return;
    await new Promise<void>((resolve) => {
      this.#whenEmpty.push(resolve);
    });
  }

  #terminate(kind: SubjectKind, value: string, fault: Fault): number {
    const hit = [...(this.#bySubject.get(subjectKey(kind, value)) ?? [])];
    for (const session of hit) session.terminate(fault, 'revoked');
    return hit.length;
  }

  #admit(state: OpeningState, session: LiveSession, leave: () => void): () => void {
    if (this.#closed !== undefined) throw this.#closed;
    const hit = state.revocations.find((revocation) => names(revocation, session.subjects));
    if (hit !== undefined) throw revokedFault(hit);
    this.#openings.delete(state);
    this.#sessions.set(session.subjects.sessionId, session);
    const keys = Object.entries(session.subjects).map(([kind, value]) => subjectKey(kind, value));
    for (const key of keys) addTo(this.#bySubject, key, session);
    return () => {
      if (!this.#sessions.delete(session.subjects.sessionId)) return;
      for (const key of keys) removeFrom(this.#bySubject, key, session);
      leave();
      if (this.#sessions.size === 0) for (const resolve of this.#whenEmpty.splice(0)) resolve();
    };
  }

  #leave(spiffeId: string): void {
    const left = (this.#perIdentity.get(spiffeId) ?? 1) - 1;
    if (left === 0) this.#perIdentity.delete(spiffeId);
    else this.#perIdentity.set(spiffeId, left);
  }
}

/** A session between its request to the server and its place in the table. Dispose it when done. */
export interface Opening extends Disposable {
  /** Whether a Hello went out since this began, so that what the server opened meanwhile is closed again. */
  readonly isVoid: boolean;

  /** Begins anew after a void attempt; revocations seen so far stay. */
  restart(): void;

  /**
   * Makes the session live.
   * @returns takes it out again; idempotent
   * @throws Fault if it was revoked meanwhile, or the gateway stops
   */
  admit(session: LiveSession): () => void;
}

interface OpeningState {
  readonly revocations: Revocation[];
  isVoid: boolean;
}

function revokedFault(revocation: Revocation): Fault {
  const message = revocation.reason === '' ? 'access was revoked' : revocation.reason;
  return new Fault('PERMISSION_DENIED', message, { cause: revocation.cause });
}

function names({ subject: named }: Revocation, subjects: SessionSubjects): boolean {
  const subject = named?.subject;
  return subject?.case !== undefined && subjects[subject.case] === subject.value;
}

function subjectKey(kind: string, value: string): string {
  return `${kind}\0${value}`;
}

function addTo<T>(map: Map<string, Set<T>>, key: string, one: T): void {
  const set = map.get(key) ?? new Set();
  map.set(key, set.add(one));
}

function removeFrom<T>(map: Map<string, Set<T>>, key: string, one: T): void {
  const set = map.get(key);
  set?.delete(one);
  if (set?.size === 0) map.delete(key);
}
