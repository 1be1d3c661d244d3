import type { NamesTouched } from '../relay/statement-log.ts';
import type { Target } from './statement-targets.ts';
import type { StatementClass, Verdict } from './statement-verdict.ts';

/** What reading a statement finds out. */
export interface StatementFacts {
  /** libpg_query's; equal for statements that differ in literals alone. Empty if unparsed. */
  readonly fingerprint: string;
  /** The text with `$n` in place of literals, without comments. Empty if unparsed. */
  readonly text: string;
  /** The strongest of all statements in the text. */
  readonly class: StatementClass;
  readonly verdict: Verdict;
  /** `schema.table`, or `table` where the statement does not qualify it. */
  readonly tables: readonly string[];
  /** All that it names, as `tables`, common table expressions too: for rules, not for records. */
  readonly relations: ReadonlySet<string>;
  /** Functions that it calls, as `schema.name` or `name`. */
  readonly functions: ReadonlySet<string>;
  readonly literals: readonly StatementLiteral[];
  /** By n of the client's own `$n`. */
  readonly parameterTargets: ReadonlyMap<number, Target>;
  readonly names: NamesTouched | undefined;
  /** Why it does not parse, in the client's own words: for the client, never for a record or a log. */
  readonly syntaxError?: string;
}

export interface StatementLiteral extends Target {
  /** n of its `$n` in the text, above the client's own. */
  readonly position: number;
  /** Strings decoded, all else as written. */
  readonly value: string;
}
