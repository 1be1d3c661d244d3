/**
 * What is under way between one client and its backend: each message that the backend will answer, in
 * order, and what names stand for. Knows no bytes.
 *
 * Source: PostgreSQL 15, "Extended Query", "Pipelining", "COPY Operations".
 */
import { Fault } from '../../../../../runtime/fault.ts';
import { type NameChange, NameTable } from './name-table.ts';
import type {
  JudgedStatement,
  NamesTouched,
  NumberedStatement,
  StatementDenial,
} from './statement-log.ts';

export type PendingKind = 'query' | 'parse' | 'bind' | 'describe' | 'execute' | 'close' | 'sync';

export interface PreparedStatement {
  readonly judged: JudgedStatement;
  /** Length of its text. */
  readonly bytes: number;
  /** The backend was asked what its result looks like. */
  described: boolean;
}

/** A message that the backend has not answered yet. All have one shape: one is made for each message. */
export class Pending {
  readonly kind: PendingKind;
  readonly startedMs: number;
  statement: NumberedStatement | undefined;
  /** Of a Parse: what is recorded if it fails. */
  prepared: PreparedStatement | undefined;
  /** The client's message did not go to the backend; its error is to be replaced by this one's. */
  denial: StatementDenial | undefined;
  statementName: NameChange<PreparedStatement> | undefined;
  portalName: NameChange<NumberedStatement> | undefined;
  /** The gateway asked, not the client, who must not see the answer. */
  isOwn = false;
  /** COPYs that the client has sent data for, to the end, before the backend started them. */
  earlyCopies = 0;

  constructor(kind: PendingKind, startedMs: number, statement?: NumberedStatement) {
    this.kind = kind;
    this.startedMs = startedMs;
    this.statement = statement;
    this.denial = statement?.denial;
  }
}

/**
 * `open` from CopyInResponse to the client's CopyDone; `failed` after an error in it, when a client that
 * has not read the error may still send data.
 */
export type CopyIn = 'no' | 'open' | 'failed';

export class Exchange {
  readonly statements = new NameTable<PreparedStatement>(({ bytes }) => bytes);
  readonly portals = new NameTable<NumberedStatement>();
  copyIn: CopyIn = 'no';
  /** The backend ignores all that comes before the next Sync. */
  skipping = false;
  /** Counts Syncs. */
  batch = 0;
  /** The client has said goodbye. */
  terminated = false;
  /** Bytes of texts that unanswered messages keep. */
  pendingBytes = 0;
  #sqlDropsNames = false;
  #pending: Pending[] = [];
  #first = 0;

  get pendingCount(): number {
    return this.#pending.length - this.#first;
  }

  get head(): Pending | undefined {
    return this.#pending[this.#first];
  }

  add(pending: Pending): void {
    this.pendingBytes += pending.prepared?.bytes ?? 0;
    this.#pending.push(pending);
  }

  /**
   * A statement runs that changes by SQL what names of prepared statements stand for: a name that was
   * dropped and made again stands for another statement than the one that the client prepared.
   */
  namesTouched(names: NamesTouched | undefined): void {
    if (names === undefined) return;
    this.#sqlDropsNames ||= names.drops;
    if (names.makes && this.#sqlDropsNames) this.statements.distrust();
  }

  /** Takes the head off. */
  pop(): void {
    this.pendingBytes -= this.head?.prepared?.bytes ?? 0;
    this.#pending[this.#first] = DONE;
    this.#first += 1;
    if (this.#first === this.#pending.length) this.#pending.length = 0;
    else if (this.#first < COMPACT_AFTER) return;
    else this.#pending.splice(0, this.#first);
    this.#first = 0;
  }

  /**
   * An error in the extended protocol: the backend skips to the next Sync.
   * @throws Fault PROTOCOL_VIOLATION if a later batch relied on what did not happen
   */
  skipToSync(): void {
    for (let head = this.head; head !== undefined; head = this.head) {
      if (head.kind === 'sync') return;
      undo(this, head);
      this.pop();
    }
    this.skipping = true;
  }

  /**
   * COPY data while the backend has not asked for any: some clients, such as pgx, send it right behind
   * their Query. A backend that is not in COPY ignores it.
   * @returns whether it goes to the backend
   * @throws Fault PROTOCOL_VIOLATION in the extended protocol
   */
  earlyCopyData(type: string): boolean {
    const last = this.#pending[this.#pending.length - 1];
    if (this.pendingCount === 0 || last?.denial !== undefined) return false;
    if (last?.kind !== 'query') {
      throw new Fault('PROTOCOL_VIOLATION', 'COPY data outside of COPY');
    }
    if (type !== 'd') last.earlyCopies += 1;
    return true;
  }

  /**
   * The backend takes COPY data for its head.
   * @throws Fault PROTOCOL_VIOLATION if it would take a Query for such data
   */
  copyInStarts(): void {
    const { head } = this;
    if (head !== undefined && head.earlyCopies > 0) {
      head.earlyCopies -= 1;
      return;
    }
    this.copyIn = 'open';
    this.#dropSyncsAfterHead();
    if (head?.kind === 'query' && this.pendingCount > 1) {
      throw new Fault('PROTOCOL_VIOLATION', 'a message was sent while COPY data is expected');
    }
  }

  /** The backend reads Sync and ignores it while it takes COPY data. */
  #dropSyncsAfterHead(): void {
    const head = this.head;
    if (head === undefined) return;
    this.pop();
    while (this.head?.kind === 'sync') this.pop();
    this.#pending.splice(this.#first, 0, head);
  }
}

const COMPACT_AFTER = 4096;
const DONE = new Pending('sync', 0);

function undo(exchange: Exchange, { statementName, portalName }: Pending): void {
  const known =
    (statementName === undefined || exchange.statements.failed(statementName)) &&
    (portalName === undefined || exchange.portals.failed(portalName));
  if (known) return;
  throw new Fault(
    'PROTOCOL_VIOLATION',
    'a statement was used before its failed preparation was answered',
  );
}
