import type { PostgresRights } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { SettingRules } from '../client/setting-rules.ts';
import type { StatementFacts } from './statement-facts.ts';
import { ALWAYS_REFUSED, type RuleName, ruleOf } from './statement-verdict.ts';

type Facts = Pick<StatementFacts, 'verdict' | 'relations' | 'functions'>;

/**
 * Whether a session may send this statement: its grant gives classes and may refuse tables, functions
 * and COPY; starting and ending transactions, harmless settings and the like belong to every session.
 * The class `any` is full rights for a trusted tool: the database's rights alone hold then, and what
 * the gateway itself rests on.
 * @param settings of its backend
 * @returns the rule that refuses it; undefined if it may pass
 */
export function guardStatement(
  facts: Facts,
  { statements, rules }: Pick<PostgresRights, 'statements' | 'rules'>,
  settings: Pick<SettingRules, 'refuse'>,
): RuleName | undefined {
  const { needs, copies, sets } = facts.verdict;
  const forbidden = facts.verdict.forbidden ?? settings.refuse(sets);
  const isAny = statements.includes('any');
  if (forbidden !== undefined && (!isAny || ALWAYS_REFUSED.has(forbidden))) return forbidden;
  const lacking = isAny ? undefined : needs.find((need) => !statements.includes(need));
  if (lacking !== undefined) return ruleOf(lacking);
  if (rules === undefined) return undefined;
  if (copies && rules.noCopy) return 'copy-refused';
  if (rules.tables.some((name) => isNamed(name, facts.relations))) return 'table-refused';
  return rules.functions.some((name) => isNamed(name, facts.functions))
    ? 'function-refused'
    : undefined;
}

/** Where the statement or the rule leaves the schema out, the bare name counts. */
function isNamed(refused: string, names: ReadonlySet<string>): boolean {
  if (names.size === 0) return false;
  const bare = refused.slice(refused.lastIndexOf('.') + 1);
  if (names.has(refused) || names.has(bare)) return true;
  return bare === refused && [...names].some((name) => name.endsWith(`.${bare}`));
}
