import type { PostgresRights } from '../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { StatementFacts } from './statement-facts.ts';
import type { RuleName } from './statement-rules.ts';

/**
 * Whether a session may send this statement: a grant gives the classes `read` and `write`; starting
 * and ending transactions, harmless settings and the like belong to every session.
 * @returns the rule that refuses it; undefined if it may pass
 */
export function guardStatement(
  facts: Pick<StatementFacts, 'verdict'>,
  rights: Pick<PostgresRights, 'statements'>,
): RuleName | undefined {
  const { forbidden, needsRead, needsWrite } = facts.verdict;
  if (forbidden !== undefined) return forbidden;
  if (needsWrite && !rights.statements.includes('write')) return 'write-not-granted';
  if (needsRead && !rights.statements.includes('read')) return 'read-not-granted';
  return undefined;
}
