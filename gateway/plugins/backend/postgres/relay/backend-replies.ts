/**
 * What a backend answers, message by message: tied to the message that it answers, counted, recorded,
 * and handed on. An answer to nothing, or one that a client must not see, ends the session.
 */
import { FindingKind } from '../../../../../proto/gen/writ/gateway/v1/recording_pb.ts';
import { Fault } from '../../../../../runtime/fault.ts';
import type { Budget } from '../../../../session/budget.ts';
import { breaksPin } from '../client/settings.ts';
import type { ResultGuard } from '../masking/result-guard.ts';
import {
  readCommandComplete,
  readErrorFields,
  readParameterStatus,
  readReadyForQuery,
  rowsOfTag,
} from '../wire/backend-messages.ts';
import { errorResponse } from '../wire/errors.ts';
import { type FrameRules, HEADER_BYTES } from '../wire/frames.ts';
import { BodyReader } from '../wire/message-body.ts';
import type { Exchange, PendingKind } from './exchange.ts';
import type { NumberedStatement, StatementLog } from './statement-log.ts';

const LONGEST_ROW = 1024 * 1024 * 1024;
const LONGEST_TEXT = 64 * 1024 * 1024;
const LONGEST_OTHER = 1024 * 1024;

/**
 * Absent, so refused: FunctionCallResponse, CopyBothResponse, and all that belongs to a login.
 */
export const BACKEND_RULES: FrameRules = {
  limits: {
    D: LONGEST_ROW,
    d: LONGEST_ROW,
    E: LONGEST_TEXT,
    N: LONGEST_TEXT,
    T: LONGEST_OTHER,
    t: LONGEST_OTHER,
    S: LONGEST_OTHER,
    A: LONGEST_OTHER,
    G: LONGEST_OTHER,
    H: LONGEST_OTHER,
    C: LONGEST_OTHER,
    I: 4,
    Z: 5,
    c: 4,
    n: 4,
    s: 4,
    '1': 4,
    '2': 4,
    '3': 4,
  },
  streamed: 'Dd',
};

const NONE: readonly string[] = [];
const DROPPED = Buffer.alloc(0);
const D = 0x44;
const COPY_DATA = 0x64;

export interface BackendRepliesOptions {
  readonly exchange: Exchange;
  readonly log: StatementLog;
  readonly counts: { rows: number };
  readonly budget: Pick<Budget, 'row' | 'error'>;
  /** The session's role. */
  readonly role: string;
  /** Whether it may listen: notifications are other sessions' words. */
  readonly mayListen: boolean;
  /** Undefined if nothing is masked here. */
  readonly guard: ResultGuard | undefined;
}

export class BackendReplies {
  readonly #exchange: Exchange;
  readonly #log: StatementLog;
  readonly #options: BackendRepliesOptions;
  /** The backend has told the client that it ends. */
  saidFatal = false;
  /** Outside of any transaction, with nothing under way. */
  isAtRest = true;
  /** Undefined if rows are not looked at. */
  readonly #rowGuard: ResultGuard | undefined;
  /** Rows since the last result. */
  #rows = 0;
  #lastStatement: NumberedStatement | undefined;

  constructor(options: BackendRepliesOptions) {
    this.#exchange = options.exchange;
    this.#log = options.log;
    this.#options = options;
    this.#rowGuard = options.guard?.readsRows === true ? options.guard : undefined;
  }

  /** A FrameHandler for BACKEND_RULES. */
  handle(data: Buffer, start: number, end: number): Buffer | undefined {
    const type = data[start] ?? 0;
    if (type === D || type === COPY_DATA) {
      this.#countRow();
      const guard = this.#rowGuard;
      if (guard === undefined) return undefined;
      if (type === D)
        return guard.row(data, { start, end }, this.#exchange.head?.statement?.result);
      guard.copyData(data, start, end);
      return undefined;
    }
    const { guard } = this.#options;
    const name = String.fromCharCode(type);
    if (name === 'T') this.#checkOrigins(new BodyReader(data, start + HEADER_BYTES, end));
    const instead = this.#reply(name, new BodyReader(data, start + HEADER_BYTES, end));
    const said = instead ?? guard?.message(name, data, start, end);
    this.noteFindings();
    return said;
  }

  /** Records what was found since the last call. @throws Fault RECORDING_UNWRITABLE */
  noteFindings(): void {
    const { guard } = this.#options;
    if (guard === undefined || guard.findings.isEmpty) return;
    for (const finding of guard.findings.take()) this.#log.found(finding);
  }

  /** A classified column that comes past its view: the wall in the database does not hold. */
  #checkOrigins(body: BodyReader): void {
    const name = this.#options.guard?.unmaskedIn(body);
    if (name === undefined) return;
    this.#log.found({ kind: FindingKind.UNMASKED, name, count: 1n });
    throw new Fault(
      'PERMISSION_DENIED',
      'the database lets a classified column through unmasked: tell its administrator',
    );
  }

  /** Whether the next row or piece of COPY data, whatever its length, must be whole to be handed on. */
  mustHold(type: string): boolean {
    const guard = this.#rowGuard;
    return guard?.mustHold(type, this.#exchange.head?.statement?.result) ?? false;
  }

  #countRow(): void {
    this.#expect('query', 'execute');
    const { counts, budget } = this.#options;
    budget.row();
    counts.rows += 1;
    this.#rows += 1;
  }

  #reply(type: string, body: BodyReader): Buffer | undefined {
    switch (type) {
      case 'E':
        return this.#error(body);
      case 'S':
        this.#parameter(body);
        return undefined;
      case 'A':
        if (!this.#options.mayListen) throw unexpected();
        return undefined;
      case 'N':
      case 'c':
        return undefined;
      case 'Z':
        this.#ready(body);
        return undefined;
      case 'C':
        this.#complete(readCommandComplete(body));
        return undefined;
      case 'I':
      case 's':
        this.#complete('');
        return undefined;
      case 'T':
        return this.#described(body);
      case 'n':
        return this.#describedAsEmpty();
      default:
        this.#step(type);
        return undefined;
    }
  }

  #described(body: BodyReader): Buffer | undefined {
    const head = this.#exchange.head;
    const kind = this.#expect('query', 'describe');
    const isOwn = head?.isOwn ?? false;
    if (kind === 'query' || isOwn) this.#options.guard?.describe(body, head?.statement?.result);
    if (kind === 'describe') this.#exchange.pop();
    return isOwn ? DROPPED : undefined;
  }

  #describedAsEmpty(): Buffer | undefined {
    this.#expect('describe');
    const head = this.#exchange.head;
    this.#exchange.pop();
    return head?.isOwn === true ? DROPPED : undefined;
  }

  #step(type: string): void {
    switch (type) {
      case '1':
      case '2':
      case '3':
        this.#named(STEPS[type]);
        break;
      case 't':
        this.#expect('describe');
        break;
      case 'G':
        this.#expect('query', 'execute');
        this.#exchange.copyInStarts();
        break;
      case 'H':
        this.#expect('query', 'execute');
        break;
      default:
        throw unexpected();
    }
  }

  /** ParseComplete, BindComplete, CloseComplete. */
  #named(kind: 'parse' | 'bind' | 'close'): void {
    this.#expect(kind);
    const head = this.#exchange.head;
    // The text that stands in for a refused statement does not parse: this backend is not PostgreSQL.
    if (head?.denial !== undefined) throw unexpected();
    if (head?.statementName !== undefined) this.#exchange.statements.done(head.statementName);
    if (head?.portalName !== undefined) this.#exchange.portals.done(head.portalName);
    this.#exchange.pop();
  }

  #complete(commandTag: string): void {
    const kind = this.#expect('query', 'execute');
    const head = this.#exchange.head;
    if (head?.denial !== undefined) throw unexpected();
    const rows = rowsOfTag(commandTag) ?? this.#rows;
    this.#record(commandTag, '', rows);
    if (kind === 'execute') this.#exchange.pop();
  }

  #error(body: BodyReader): Buffer | undefined {
    const { severity, sqlstate } = readErrorFields(body);
    const head = this.#exchange.head;
    this.#options.budget.error(sqlstate);
    if (severity !== 'ERROR') this.saidFatal = true;
    else if (head === undefined) throw unexpected();
    if (head?.prepared !== undefined) {
      this.#lastStatement = this.#log.open(head.prepared.judged, []);
      const { startedMs } = head;
      this.#log.close(this.#lastStatement, { commandTag: '', sqlstate, rows: 0, startedMs });
    } else {
      this.#record('', head?.denial?.error.sqlstate ?? sqlstate, this.#rows);
    }
    if (this.#exchange.copyIn === 'open') this.#exchange.copyIn = 'failed';
    const { denial } = head ?? {};
    if (head !== undefined && head.kind !== 'query') this.#exchange.skipToSync();
    return denial !== undefined && severity === 'ERROR' ? errorResponse(denial.error) : undefined;
  }

  #record(commandTag: string, sqlstate: string, rows: number): void {
    const head = this.#exchange.head;
    // An error at Sync is the commit's: of the last statement before it.
    const statement = head?.kind === 'sync' ? this.#lastStatement : head?.statement;
    this.#rows = 0;
    if (statement === undefined) return;
    this.#lastStatement = statement;
    const startedMs = head?.startedMs ?? this.#log.nowMs;
    const { result } = statement;
    const maskedColumns = result?.plan?.maskedColumns ?? NONE;
    this.#log.close(statement, { commandTag, sqlstate, rows, startedMs, maskedColumns });
    // The next result of the same text is another one; a portal's stays.
    if (head?.kind === 'query' && result !== undefined) result.plan = undefined;
  }

  #ready(body: BodyReader): void {
    const status = readReadyForQuery(body);
    if (status === undefined) throw unexpected();
    this.#expect('query', 'sync');
    this.#exchange.pop();
    this.isAtRest = status === 'I';
    if (status === 'I') this.#exchange.portals.clear();
  }

  #parameter(body: BodyReader): void {
    const [name, value] = readParameterStatus(body);
    if (breaksPin(name, value, this.#options.role)) {
      throw new Fault('PERMISSION_DENIED', `setting "${name}" changed, which the grant forbids`);
    }
  }

  /** The kind of the message that is answered. */
  #expect(one: PendingKind, other = one): PendingKind {
    this.isAtRest = false;
    const kind = this.#exchange.head?.kind;
    if (kind !== one && kind !== other) throw unexpected();
    return kind;
  }
}

const STEPS = { '1': 'parse', '2': 'bind', '3': 'close' } as const;

function unexpected(): Fault {
  return new Fault('PROTOCOL_VIOLATION', 'the backend answered what was not asked');
}
