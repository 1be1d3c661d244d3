/**
 * What a parsed statement does, by PostgreSQL's own grammar, and whether it is one that no grant
 * gives. What is not on a list here is refused. The database's rights are the boundary (design.md);
 * this layer says no early and clearly, and keeps out what every login of a database may do.
 */
import { isUnbounded } from './statement-bounds.ts';
import { judgeSetting } from './statement-settings.ts';
import {
  type Fields,
  fieldsIf,
  fieldsOf,
  isNodeType,
  listOf,
  namesOf,
  nodeOf,
  stringConstant,
  textOf,
  walk,
} from './statement-tree.ts';
import {
  FREE,
  type GrantedClass,
  type RuleName,
  type StatementClass,
  stronger,
  type Verdict,
} from './statement-verdict.ts';

export const READ: Verdict = { ...FREE, class: 'read', needs: ['read'] };
const WRITE: Verdict = { ...FREE, class: 'write', needs: ['write'] };
const UNBOUNDED_WRITE: Verdict = { ...WRITE, needs: ['write', 'unbounded'] };
const DDL: Verdict = { ...FREE, class: 'ddl', needs: ['ddl'] };
const LISTEN: Verdict = { ...FREE, class: 'other', needs: ['listen'] };
const SESSION: Verdict = { ...FREE, class: 'session' };
const NO_SETTING: Verdict = { ...SESSION, forbidden: 'setting-not-allowed' };

/** A text that the grammar does not take. */
export const UNREADABLE: Verdict = {
  ...FREE,
  class: 'unparsed',
  forbidden: 'unreadable-statement',
};

/** A text that is too long to try. */
export const TOO_LONG: Verdict = { ...UNREADABLE, forbidden: 'statement-too-long' };

const FREE_STATEMENTS: Readonly<Record<string, StatementClass>> = {
  ClosePortalStmt: 'read',
  ConstraintsSetStmt: 'transaction',
  DeallocateStmt: 'session',
  // Like RESET ALL it goes back to what the session started with, where pinned settings are pinned.
  DiscardStmt: 'session',
  // What it runs was judged when it was prepared, but is not known here.
  ExecuteStmt: 'other',
  FetchStmt: 'read',
  UnlistenStmt: 'session',
  VariableShowStmt: 'session',
};

const CLASS_STATEMENTS: Readonly<Record<string, GrantedClass>> = {
  AlterDefaultPrivilegesStmt: 'grant',
  CallStmt: 'call',
  CheckPointStmt: 'maintenance',
  ClusterStmt: 'maintenance',
  DoStmt: 'do',
  GrantRoleStmt: 'grant',
  GrantStmt: 'grant',
  ListenStmt: 'listen',
  LockStmt: 'lock',
  NotifyStmt: 'listen',
  ReindexStmt: 'maintenance',
  VacuumStmt: 'maintenance',
};

/** What no class gives. */
const FORBIDDEN_STATEMENTS: Readonly<Record<string, RuleName>> = {
  AlterDatabaseSetStmt: 'setting-not-allowed',
  AlterOwnerStmt: 'role-change',
  AlterRoleSetStmt: 'role-change',
  AlterRoleStmt: 'role-change',
  AlterSystemStmt: 'maintenance',
  CreateRoleStmt: 'role-change',
  DropOwnedStmt: 'role-change',
  DropRoleStmt: 'role-change',
  LoadStmt: 'server-file',
  ReassignOwnedStmt: 'role-change',
};

const QUERIES = /^(Select|Insert|Update|Delete|Merge)Stmt$/;
const CHANGES = /^(Insert|Update|Delete|Merge)Stmt$/;
const PREPARED_TRANSACTIONS = /^TRANS_STMT_(PREPARE|COMMIT_PREPARED|ROLLBACK_PREPARED)$/;

/** Built-in functions that do what the statement of the same purpose may not, by their names. */
const FORBIDDEN_FUNCTIONS: readonly (readonly [RegExp, RuleName])[] = [
  [/^(lo_\w+|loread|lowrite)$/, 'large-object'],
  [/^pg_(read_\w+|ls_\w+|stat_file|file_\w+|logdir_ls|current_logfile)$/, 'server-file'],
  [/^((query|table|schema|database|cursor)_to_xml\w*|ts_stat|dblink\w*)$/, 'sql-in-function'],
];
const WRITING_FUNCTIONS = /^(nextval|setval|pg_(try_)?advisory_(xact_)?lock(_shared)?)$/;

/** @param statements the trees of one text, in order */
export function judge(statements: readonly unknown[]): Verdict {
  return statements.map(judgeStatement).reduce(stronger, SESSION);
}

function judgeStatement(statement: unknown): Verdict {
  const [type, fields] = nodeOf(statement) ?? ['', {}];
  if (QUERIES.test(type)) return withExpressions(READ, statement);
  const free = FREE_STATEMENTS[type];
  if (free !== undefined) return withExpressions({ ...FREE, class: free }, fields);
  switch (type) {
    case 'CopyStmt':
      return judgeCopy(fields);
    case 'DeclareCursorStmt':
    case 'PrepareStmt':
      return judgeStatement(fields.query);
    case 'ExplainStmt':
      return judgeExplain(fields);
    case 'TransactionStmt':
      return judgeTransaction(fields);
    case 'VariableSetStmt':
      return judgeSet(fields);
    default:
      return withExpressions(judgeOther(type), fields);
  }
}

function judgeOther(type: string): Verdict {
  const forbidden = FORBIDDEN_STATEMENTS[type];
  if (forbidden !== undefined) return { ...FREE, class: 'other', forbidden };
  const needed = CLASS_STATEMENTS[type];
  return needed === undefined ? DDL : { ...FREE, class: 'other', needs: [needed] };
}

/** What a tree holds at any depth: changes in a CTE, row locks, SELECT INTO, functions. */
function withExpressions(verdict: Verdict, tree: unknown): Verdict {
  let result = verdict;
  walk(tree, (fields) => {
    if (fields.intoClause !== undefined) result = stronger(result, DDL);
    for (const type in fields) {
      if (!isNodeType(type)) continue;
      const found = judgeNode(type, fieldsOf(fields[type]));
      if (found !== undefined) result = stronger(result, found);
    }
  });
  return result;
}

function judgeNode(type: string, fields: Fields): Verdict | undefined {
  if (type === 'FuncCall') return judgeFunction(fields);
  if (type === 'LockingClause') return WRITE;
  if (type === 'SelectStmt') return READ;
  // The SET clause of a function, which holds while it runs.
  if (type === 'VariableSetStmt') return judgeSet(fields);
  if (!CHANGES.test(type)) return undefined;
  // A rule of this view calls set_config().
  const setsSettings = fieldsOf(fields.relation).relname === 'pg_settings';
  if (setsSettings) return { ...WRITE, forbidden: 'pinned-setting' };
  return isUnbounded(type, fields) ? UNBOUNDED_WRITE : WRITE;
}

function judgeFunction({ funcname, args }: Fields): Verdict | undefined {
  const name = namesOf(funcname)?.at(-1) ?? '';
  const given = listOf(args);
  if (name === 'set_config') return judgeSetConfig(given);
  if (name === 'pg_notify') return LISTEN;
  if (WRITING_FUNCTIONS.test(name)) return WRITE;
  // Its form with two arguments runs the second one.
  const runsSql = name === 'ts_rewrite' && given.length === 2;
  const [, rule] = FORBIDDEN_FUNCTIONS.find(([names]) => names.test(name)) ?? [];
  const forbidden = runsSql ? 'sql-in-function' : rule;
  return forbidden === undefined ? undefined : { ...FREE, class: 'other', forbidden };
}

function judgeSetConfig([name, value]: readonly unknown[]): Verdict {
  const setting = stringConstant(name);
  return setting === undefined
    ? { ...SESSION, forbidden: 'pinned-setting' }
    : judgeSetting(setting, stringConstant(value));
}

function judgeCopy(fields: Fields): Verdict {
  const copy = { ...FREE, class: 'copy', copies: true } as const;
  if (fields.is_program === true) return { ...copy, forbidden: 'copy-program' };
  if (fields.filename !== undefined) return { ...copy, forbidden: 'server-file' };
  const moves = fields.is_from === true ? WRITE : READ;
  return withExpressions({ ...moves, copies: true }, fields);
}

/** Without ANALYZE, whatever its value, nothing runs. */
function judgeExplain(fields: Fields): Verdict {
  const inner = judgeStatement(fields.query);
  const runs = listOf(fields.options).some(
    (option) => fieldsIf('DefElem', option)?.defname === 'analyze',
  );
  if (runs) return inner;
  const needs = inner.needs.filter((need) => need !== 'write' && need !== 'unbounded');
  return stronger(READ, { ...inner, class: 'read', needs });
}

function judgeTransaction({ kind }: Fields): Verdict {
  // It would outlive the session.
  const outlives = PREPARED_TRANSACTIONS.test(textOf(kind));
  const forbidden = outlives ? 'prepared-transaction' : undefined;
  return { ...FREE, class: 'transaction', forbidden };
}

function judgeSet({ kind, name, args }: Fields): Verdict {
  switch (kind) {
    case 'VAR_RESET':
    case 'VAR_RESET_ALL':
    case 'VAR_SET_DEFAULT':
      return SESSION;
    case 'VAR_SET_MULTI':
      return name === 'TRANSACTION' || name === 'SESSION CHARACTERISTICS' ? SESSION : NO_SETTING;
    case 'VAR_SET_VALUE':
      return judgeSetting(textOf(name), settingValue(listOf(args)));
    default:
      return NO_SETTING;
  }
}

function settingValue(args: readonly unknown[]): string | undefined {
  const constant = fieldsIf('A_Const', args[0]);
  if (constant === undefined || args.length !== 1) return undefined;
  if (constant.ival !== undefined) return String(fieldsOf(constant.ival).ival ?? 0);
  if (constant.fval !== undefined) return textOf(fieldsOf(constant.fval).fval);
  return stringConstant(args[0]);
}
