import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  StatementResultSchema,
  StatementSchema,
} from '../../../../../proto/gen/writ/gateway/v1/recording_pb.ts';
import type { Clock } from '../../../../../runtime/clock.ts';
import type { Recorder } from '../../../../recording/recorder.ts';
import type { Budget } from '../../../../session/budget.ts';
import type { SessionCounts } from '../../../../session/session-desk.ts';
import type { Finding } from '../masking/findings.ts';
import { StatementResult } from '../masking/result-guard.ts';
import type { StatementReach } from '../masking/statement-reach.ts';
import type { PostgresError } from '../wire/errors.ts';

export type StatementInit = MessageInitShape<typeof StatementSchema>;

/** A value bound to a parameter: text as a string, binary as bytes, null for SQL NULL. */
export type BoundValue = string | Uint8Array | null;

/** One statement text, read and judged by the rights of the session's grant. */
export interface JudgedStatement {
  /** As Statement.class of a recording. */
  readonly class: string;
  /** What the client gets instead; undefined if the statement may run. */
  readonly denial: StatementDenial | undefined;
  /** What it does, as SQL, to the names of prepared statements. */
  readonly names?: NamesTouched | undefined;
  /** Where the gateway masks: what the statement's results may show. */
  readonly reach?: StatementReach | undefined;
  /** What it takes to remember it, if that is not its text. */
  readonly keptBytes?: number;
  /** What a recording may hold of it (threats S9); number and denial are added. */
  record(bound: readonly BoundValue[]): StatementInit;
}

export interface NamesTouched {
  readonly makes: boolean;
  readonly drops: boolean;
}

export interface StatementDenial {
  /** Kept in the record. */
  readonly rule: string;
  readonly error: PostgresError;
}

/** A statement that has its number in the record. */
export interface NumberedStatement {
  readonly number: bigint;
  readonly denial: StatementDenial | undefined;
  readonly names: NamesTouched | undefined;
  readonly result: StatementResult | undefined;
  /** What it was bound from, if that is known. */
  source: { described: boolean } | undefined;
}

export interface StatementOutcome {
  /** Empty if it failed. */
  readonly commandTag: string;
  /** Empty if it succeeded. */
  readonly sqlstate: string;
  readonly rows: number;
  /** As StatementResult.masked_columns of a recording. */
  readonly maskedColumns?: readonly string[];
  /** On the monotonic clock. */
  readonly startedMs: number;
}

export interface StatementLogOptions {
  readonly recorder: Recorder;
  readonly counts: SessionCounts;
  readonly budget: Pick<Budget, 'statement'>;
  readonly clock: Clock;
  /** For metrics. */
  onStatement(statementClass: string, outcome: 'allowed' | 'denied'): void;
}

const NONE: never[] = [];
const NO_BYTES = new Uint8Array();

/** Classes whose statements change nothing that lasts: their record need not survive a crash first. */
const NOT_SYNCED: ReadonlySet<string> = new Set(['read', 'transaction', 'session']);

/** The statements of one session, in its record: each before it reaches the backend. */
export class StatementLog {
  readonly #options: StatementLogOptions;
  #mustSync = false;

  constructor(options: StatementLogOptions) {
    this.#options = options;
  }

  get nowMs(): number {
    return this.#options.clock.monotonicMs();
  }

  /** @throws Fault RECORDING_UNWRITABLE, as all of this class */
  open(judged: JudgedStatement, bound: readonly BoundValue[]): NumberedStatement {
    const { recorder, counts, budget, onStatement } = this.#options;
    const { denial } = judged;
    budget.statement();
    counts.statements += 1;
    const number = BigInt(counts.statements);
    const kept = judged.record(bound);
    // Field by field: an object that is spread has a shape of its own, which slows down all that reads it.
    const value = {
      number,
      fingerprint: kept.fingerprint ?? '',
      text: kept.text ?? '',
      class: kept.class ?? '',
      parameters: kept.parameters ?? NONE,
      tables: kept.tables ?? NONE,
      deniedBy: denial?.rule ?? '',
      textHmac: kept.textHmac ?? NO_BYTES,
    };
    recorder.write({ case: 'statement', value });
    if (denial === undefined && !NOT_SYNCED.has(judged.class)) this.#mustSync = true;
    onStatement(judged.class, denial === undefined ? 'allowed' : 'denied');
    const result = judged.reach === undefined ? undefined : new StatementResult(judged.reach);
    return { number, denial, names: judged.names, result, source: undefined };
  }

  close({ number }: NumberedStatement, outcome: StatementOutcome): void {
    const { commandTag, sqlstate, rows, startedMs, maskedColumns } = outcome;
    const durationMicroseconds = BigInt(Math.max(0, Math.round((this.nowMs - startedMs) * 1000)));
    const value: MessageInitShape<typeof StatementResultSchema> = {
      number,
      commandTag,
      sqlstate,
      rows: BigInt(rows),
      durationMicroseconds,
      maskedColumns: maskedColumns === undefined ? NONE : [...maskedColumns],
    };
    this.#options.recorder.write({ case: 'result', value });
  }

  /** Something was noticed in what the backend sends. */
  found(finding: Finding): void {
    this.#options.recorder.write({ case: 'finding', value: { ...finding } });
  }

  /** To be called before what was opened goes to the backend. */
  beforeEffect(): void {
    if (!this.#mustSync) return;
    this.#mustSync = false;
    this.#options.recorder.sync();
  }
}

/** A statement of which the gateway knows nothing but its class. */
export function opaqueStatement(statementClass: string, denial?: StatementDenial): JudgedStatement {
  return { class: statementClass, denial, record: () => ({ class: statementClass }) };
}

/** The error that a client gets for a statement that does not reach the backend. */
export function statementDenial(rule: string, sqlstate = '42501', hint?: string): StatementDenial {
  const error = {
    severity: 'ERROR' as const,
    sqlstate,
    message: `refused by the gateway: ${rule}`,
    ...(hint === undefined ? {} : { hint }),
  };
  return { rule, error };
}

/** A statement that could not be read, so that nobody knows what it would do. */
export function notJudged(why: string): JudgedStatement {
  return opaqueStatement('unparsed', statementDenial('statement-not-judged', '42501', why));
}
