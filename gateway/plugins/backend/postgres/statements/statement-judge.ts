import type { PostgresRights } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../../../../runtime/fault.ts';
import type { SettingRules } from '../client/setting-rules.ts';
import type { WireJudgement, WireMasking, WireRefusal } from '../masking/wire-masking.ts';
import { recordText, StatementRecord } from '../relay/recorded-statement.ts';
import {
  type JudgedStatement,
  notJudged,
  type StatementDenial,
  statementDenial,
} from '../relay/statement-log.ts';
import { guardStatement } from './guard-statement.ts';
import type { LongFacts, LongStatement } from './long-statement.ts';
import type { StatementReader } from './statement.ts';
import type { StatementFacts } from './statement-facts.ts';
import type { RuleName } from './statement-verdict.ts';

/** What a session's grant gives, and what hides values in its record. */
export interface JudgingGrant {
  readonly rights: PostgresRights;
  readonly hmacKey: Uint8Array;
}

export interface StatementJudgeOptions {
  readonly reader: Pick<StatementReader, 'read'>;
  /** Reads what is too long for the reader. */
  readonly workers: {
    read(statement: LongStatement, signal: AbortSignal): Promise<LongFacts>;
  };
  /** Names of classified columns. */
  readonly classified: readonly string[];
  readonly settings: SettingRules;
  /** Undefined where the database masks. */
  readonly masking: Pick<WireMasking, 'judge'> | undefined;
}

/** Judges the statements of one database's sessions. */
export class StatementJudge {
  readonly #options: StatementJudgeOptions;

  constructor(options: StatementJudgeOptions) {
    this.#options = options;
  }

  judge(sql: string, grant: JudgingGrant): JudgedStatement {
    const { reader, masking } = this.#options;
    const { hmacKey } = grant;
    const facts = reader.read(sql);
    const wire = masking?.judge({ sql, shape: facts.text }, grant);
    const make = () => recordText(facts, sql, { hmacKey, isPart: false });
    const record = new StatementRecord(make, facts.parameterTargets, hmacKey);
    return this.#judged(facts, { grant, wire, record });
  }

  /**
   * In a thread of its own; what cannot be read there is refused.
   * @param text UTF-8; must not change until then
   * @param signal ends the reading, with a Fault as its reason
   */
  async judgeLong(
    text: Uint8Array,
    grant: JudgingGrant,
    signal: AbortSignal,
  ): Promise<JudgedStatement> {
    const { workers, classified, masking } = this.#options;
    const { hmacKey } = grant;
    let facts: LongFacts;
    try {
      const forMasks = masking !== undefined;
      facts = await workers.read({ text, classified, hmacKey, forMasks }, signal);
    } catch (error) {
      return notJudged(Fault.from(error).message);
    }
    const { essence, record: kept } = facts;
    const wire =
      essence === undefined ? undefined : masking?.judge({ sql: essence, shape: '' }, grant);
    const record = new StatementRecord(() => kept, facts.parameterTargets, hmacKey);
    const tooLong = masking !== undefined && essence === undefined;
    const judged = this.#judged(facts, { grant, wire, record, tooLong });
    return { ...judged, keptBytes: kept.text.length + 500 * kept.literals.length };
  }

  #judged(
    facts: Omit<StatementFacts, 'literals' | 'tables'>,
    { grant, wire, record, tooLong = false }: Reading,
  ): JudgedStatement {
    const { rights } = grant;
    const guarded = guardStatement(facts, rights, this.#options.settings);
    const rule = guarded ?? (tooLong ? 'statement-too-long' : wire?.refusal);
    return {
      class: facts.class,
      denial: rule === undefined ? undefined : denialOf(rule, facts, rights),
      names: facts.names,
      reach: wire?.reach,
      record: (bound) => record.of(bound),
    };
  }
}

interface Reading {
  readonly grant: JudgingGrant;
  readonly wire: WireJudgement | undefined;
  readonly record: StatementRecord;
  /** To be read for masks. */
  readonly tooLong?: boolean;
}

/** A mistyped statement gets the SQLSTATE that the server would give. */
function denialOf(
  rule: RuleName | WireRefusal,
  { syntaxError }: Pick<StatementFacts, 'syntaxError'>,
  { statements }: PostgresRights,
): StatementDenial {
  switch (rule) {
    case 'unreadable-statement':
      return statementDenial(rule, '42601', syntaxError);
    case 'statement-too-long':
      return statementDenial(rule, '54000', 'Bind long values as parameters, or use COPY.');
    case 'copy-of-masked-table':
      return statementDenial(rule, '42501', 'COPY is not masked here: read the table by a SELECT.');
    default: {
      const classes = statements.length === 0 ? 'none' : statements.join(', ');
      return statementDenial(rule, '42501', `Statement classes of the grant: ${classes}.`);
    }
  }
}
