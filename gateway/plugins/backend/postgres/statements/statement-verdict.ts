/** What reading a statement decides about it, before anybody's rights are known. */
import type { SettingChange, SettingRefusal } from '../client/setting-rules.ts';
import type { PinnedRule } from '../client/settings.ts';

/** As Statement.class of a recording, the weakest first. */
export const STATEMENT_CLASSES = [
  'session',
  'transaction',
  'read',
  'other',
  'write',
  'copy',
  'ddl',
  'unparsed',
] as const;
export type StatementClass = (typeof STATEMENT_CLASSES)[number];

/**
 * What a grant can allow, and the rule that refuses it where the grant does not: the first that lacks
 * is the one that a client is told.
 */
const CLASS_RULES = {
  ddl: 'ddl',
  grant: 'grant-revoke',
  do: 'do-block',
  call: 'call',
  lock: 'lock-table',
  maintenance: 'maintenance',
  listen: 'listen-notify',
  write: 'write-not-granted',
  unbounded: 'unbounded-write',
  read: 'read-not-granted',
} as const;
export type GrantedClass = keyof typeof CLASS_RULES;
export const GRANTED_CLASSES = Object.keys(CLASS_RULES) as readonly GrantedClass[];

/** Names of the rules that refuse statements; kept in recordings, told to clients. */
export type RuleName =
  | (typeof CLASS_RULES)[GrantedClass]
  | 'copy-program'
  | 'copy-refused'
  | 'function-refused'
  | 'large-object'
  | 'prepared-transaction'
  | 'role-change'
  | 'server-file'
  | 'sql-in-function'
  | 'statement-not-judged'
  | 'statement-too-long'
  | 'table-refused'
  | 'unreadable-statement'
  | PinnedRule
  | SettingRefusal;

/**
 * These hold whatever a grant says: the gateway's reading, and who the session is and when it ends, rest
 * on them. A prepared transaction would hold its locks when the session and its role are gone.
 */
export const ALWAYS_REFUSED: ReadonlySet<RuleName> = new Set([
  'copy-program',
  'pinned-setting',
  'prepared-transaction',
  'set-role',
]);

export interface Verdict {
  readonly class: StatementClass;
  /** The classes that a grant must have. */
  readonly needs: readonly GrantedClass[];
  /** The rule that refuses it whatever classes the grant has. */
  readonly forbidden: RuleName | undefined;
  readonly copies: boolean;
  /** Settings that it changes, but those which the gateway rests on. */
  readonly sets: readonly SettingChange[];
}

/** Needs no class: SET, BEGIN, or what was judged before, such as EXECUTE. */
export const FREE = { needs: [], forbidden: undefined, copies: false, sets: [] } as const;

export function ruleOf(needed: GrantedClass): RuleName {
  return CLASS_RULES[needed];
}

/** The verdict on both together. */
export function stronger(one: Verdict, other: Verdict): Verdict {
  const rank = (verdict: Verdict) => STATEMENT_CLASSES.indexOf(verdict.class);
  return {
    class: rank(other) > rank(one) ? other.class : one.class,
    needs: GRANTED_CLASSES.filter((need) => one.needs.includes(need) || other.needs.includes(need)),
    forbidden: one.forbidden ?? other.forbidden,
    copies: one.copies || other.copies,
    sets: [...one.sets, ...other.sets],
  };
}
