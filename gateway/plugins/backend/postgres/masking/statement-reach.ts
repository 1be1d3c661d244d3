/**
 * What a statement could show of classified columns beside plain output columns, which their own
 * numbers tell: read from its parse tree, by names alone, so every doubt counts as a touch.
 *
 * Threat: a value that decides which rows come back, in what order, or whether an error is raised, is
 * told bit by bit without ever being shown (acceptance G26). So a classified column may only be put
 * out as it is, or inside an output expression, which is masked whole; anything else is refused.
 */
import {
  cteNames,
  type Fields,
  fieldsIf,
  fieldsOf,
  listOf,
  namesOf,
  nodeOf,
  textOf,
  walk,
} from '../statements/statement-tree.ts';
import { decides } from './deciding-expression.ts';
import { isPlainFunction, tellsNothing } from './plain-functions.ts';

export type WireRule =
  | 'masked-column-in-condition'
  | 'masked-column-copied'
  | 'copy-of-masked-table'
  | 'function-not-listed'
  | 'statistics-of-masked-tables';

export interface StatementReach {
  /** Whether an expression of its result may hold a classified value. */
  readonly touches: boolean;
  /** By position of its result's columns, whether the expression tells nothing; if that is known. */
  readonly outputs: readonly boolean[] | undefined;
  readonly refusal: WireRule | undefined;
}

export interface ClassifiedNames {
  /**
   * Whether a relation of that name, whatever its schema, may show a classified column.
   * @param isCte whether the statement itself gives that name to a query
   */
  mayShow(relation: string, isCte: boolean): boolean;
  /** Names of classified columns of the relations of that name. */
  columnsOf(relation: string): ReadonlySet<string>;
  /** Functions that the grant names, by their bare name. */
  readonly functions: ReadonlySet<string>;
}

/** Nothing is known of it. */
export const UNKNOWN_REACH: StatementReach = {
  touches: true,
  outputs: undefined,
  refusal: undefined,
};

const STATISTICS =
  /^(pg_stats\w*|pg_statistic\w*|pg_stat_activity|pg_stat_statements\w*|pg_largeobject\w*|pg_prepared_statements|pg_cursors)$/;
/** Their result is that of a statement that was judged before, of which nothing is remembered here. */
const OPAQUE: ReadonlySet<string> = new Set(['ExecuteStmt', 'FetchStmt']);
const HOLDERS: Readonly<Record<string, string>> = {
  PrepareStmt: 'query',
  DeclareCursorStmt: 'query',
  ExplainStmt: 'query',
};

/** @param statements parse trees of all statements of one text */
export function reachOf(statements: readonly unknown[], names: ClassifiedNames): StatementReach {
  const [only] = statements;
  const reader = new ReachReader(names);
  reader.look(statements);
  const isOpaque = statements.some((one) => OPAQUE.has(nodeOf(one)?.[0] ?? ''));
  const touches = isOpaque || reader.touches || reader.callsUnknown;
  if (!touches) return { touches, outputs: undefined, refusal: reader.refusal };
  for (const statement of statements) reader.judge(statement);
  const isKnown = statements.length === 1 && !reader.callsUnknown;
  const outputs = isKnown ? harmlessOutputs(only, (value) => reader.shows(value)) : undefined;
  return { touches, outputs, refusal: reader.refusal };
}

class ReachReader {
  touches = false;
  /** Calls a function that the grant names but nobody knows the inside of. */
  callsUnknown = false;
  refusal: WireRule | undefined;
  readonly #names: ClassifiedNames;
  /** Names that stand for a classified column or a whole row of a classified relation. */
  readonly #tainted = new Set<string>();

  constructor(names: ClassifiedNames) {
    this.#names = names;
  }

  /** Finds relations and functions. */
  look(statements: readonly unknown[]): void {
    const ctes = cteNames(statements);
    walk(statements, (fields) => {
      if (typeof fields.relname === 'string') this.#relation(fields, ctes);
      if (fields.FuncCall !== undefined) this.#call(fieldsOf(fields.FuncCall));
    });
  }

  judge(statement: unknown): void {
    const [type, fields] = nodeOf(statement) ?? ['', {}];
    const holder = HOLDERS[type];
    if (holder !== undefined) {
      this.judge(fields[holder]);
      return;
    }
    if (type === 'CopyStmt' && fields.is_from !== true) {
      // COPY does not tell where its columns come from.
      this.#refuse('copy-of-masked-table');
      return;
    }
    this.#taintNames(statement);
    this.#judgeUse(statement, true);
  }

  #relation(fields: Fields, ctes: ReadonlySet<string>): void {
    const name = textOf(fields.relname);
    if (STATISTICS.test(name)) this.#refuse('statistics-of-masked-tables');
    const isCte = fields.schemaname === undefined && ctes.has(name);
    if (!this.#names.mayShow(name, isCte)) return;
    this.touches = true;
    this.#tainted.add(name);
    for (const column of this.#names.columnsOf(name)) this.#tainted.add(column);
    const alias = fieldsOf(fields.alias);
    if (alias.aliasname !== undefined) this.#tainted.add(textOf(alias.aliasname));
  }

  #call(fields: Fields): void {
    const name = namesOf(fields.funcname) ?? [];
    if (isPlainFunction(name)) return;
    if (this.#names.functions.has(name.at(-1) ?? '')) this.callsUnknown = true;
    else this.#refuse('function-not-listed');
  }

  /** New names for classified columns, until there are no more. */
  #taintNames(statement: unknown): void {
    for (let before = -1; before !== this.#tainted.size; ) {
      before = this.#tainted.size;
      walk(statement, (fields) => {
        const output = fieldsOf(fields.ResTarget);
        if (output.name !== undefined && this.#holds(output.val)) {
          this.#tainted.add(textOf(output.name));
        }
        this.#taintNamesOf(fieldsOf(fields.RangeSubselect), 'subquery');
        this.#taintCte(fieldsOf(fields.CommonTableExpr));
        // New names for columns, of a join or function too: which is which is not told.
        const renamed = fields.aliascolnames ?? fieldsOf(fields.alias).colnames;
        for (const column of namesOf(renamed) ?? []) this.#tainted.add(column);
      });
    }
  }

  #taintNamesOf(fields: Fields, query: string): void {
    const alias = fieldsOf(fields.alias);
    if (alias.aliasname === undefined || !this.shows(fields[query])) return;
    this.#tainted.add(textOf(alias.aliasname));
  }

  #taintCte(fields: Fields): void {
    if (fields.ctename === undefined || !this.shows(fields.ctequery)) return;
    this.#tainted.add(textOf(fields.ctename));
  }

  /** Whether anything in the query's text names a classified value or takes all columns of a relation. */
  shows(query: unknown): boolean {
    let shows = this.#holds(query);
    walk(query, (fields) => {
      if (fields.A_Star !== undefined) shows = true;
      if (typeof fields.relname === 'string' && this.#tainted.has(fields.relname)) shows = true;
    });
    return shows;
  }

  #holds(expression: unknown): boolean {
    let holds = false;
    walk(expression, (fields) => {
      if (fields.ColumnRef !== undefined) holds ||= this.#isTainted(fieldsOf(fields.ColumnRef));
    });
    return holds;
  }

  /** A column by its last name; a bare name may also be a whole row. */
  #isTainted(reference: Fields): boolean {
    const parts = listOf(reference.fields);
    const last = parts.at(-1);
    if (fieldsIf('A_Star', last) !== undefined) return false;
    return this.#tainted.has(textOf(fieldsOf(fieldsIf('String', last)).sval));
  }

  /**
   * @param isOutput whether what this select puts out goes to the client, where it is masked
   */
  #judgeUse(node: unknown, isOutput: boolean): void {
    const [type, fields] = nodeOf(node) ?? ['', {}];
    switch (type) {
      case 'SelectStmt':
        this.#judgeSelect(fields, isOutput);
        return;
      case 'InsertStmt':
      case 'UpdateStmt':
      case 'DeleteStmt':
      case 'MergeStmt':
        this.#judgeWrite(fields);
        return;
      default:
        this.#mustNotHold(node, 'masked-column-in-condition');
    }
  }

  #judgeSelect(fields: Fields, isOutput: boolean): void {
    for (const side of [fields.larg, fields.rarg]) {
      // Fields of a set operation hold a SelectStmt's own fields, not a node.
      if (side === undefined) continue;
      // UNION, INTERSECT and EXCEPT compare rows, unless all are kept.
      if (fields.all !== true || fields.op !== 'SETOP_UNION') this.#mustNotShow(side);
      else this.#judgeSelect(fieldsOf(fieldsIf('SelectStmt', side) ?? side), isOutput);
    }
    for (const cte of listOf(fieldsOf(fields.withClause).ctes)) {
      this.#judgeUse(fieldsOf(fieldsIf('CommonTableExpr', cte)).ctequery, isOutput);
    }
    for (const target of listOf(fields.targetList)) {
      this.#judgeOutput(fieldsOf(fieldsIf('ResTarget', target)).val, isOutput);
    }
    for (const item of listOf(fields.fromClause)) this.#judgeFrom(item, isOutput);
    const { targetList: _, fromClause: __, withClause: ___, larg: _l, rarg: _r, ...rest } = fields;
    this.#mustNotHold(rest, 'masked-column-in-condition');
    if (fields.distinctClause !== undefined || fields.groupClause !== undefined) {
      this.#mustNotShow(fields.targetList);
    }
    this.#mustNotOrderBy(fields);
  }

  /** ORDER BY 2 names an output column by its place. */
  #mustNotOrderBy({ sortClause, targetList }: Fields): void {
    for (const sort of listOf(sortClause)) {
      const by = fieldsOf(fieldsIf('SortBy', sort)).node;
      const place = fieldsOf(fieldsOf(fieldsIf('A_Const', by)).ival).ival;
      if (typeof place !== 'number') continue;
      const target = fieldsIf('ResTarget', listOf(targetList)[place - 1]);
      this.#mustNotShow(target ?? targetList);
    }
  }

  /** A subquery or a condition inside an expression decides by a value. */
  #judgeOutput(value: unknown, isOutput: boolean): void {
    if (!isOutput) {
      this.#mustNotShow(value, 'masked-column-copied');
      return;
    }
    if (!this.shows(value)) return;
    if (decides(value)) this.#refuse('masked-column-in-condition');
  }

  #judgeFrom(item: unknown, isOutput: boolean): void {
    const [type, fields] = nodeOf(item) ?? ['', {}];
    if (type === 'RangeSubselect') this.#judgeUse(fields.subquery, isOutput);
    else if (type === 'JoinExpr') {
      this.#judgeFrom(fields.larg, isOutput);
      this.#judgeFrom(fields.rarg, isOutput);
      this.#mustNotHold(fields.quals, 'masked-column-in-condition');
      const using = namesOf(fields.usingClause) ?? [];
      // A natural join compares what both sides have.
      const compares = fields.isNatural === true || using.some((name) => this.#tainted.has(name));
      if (compares) this.#refuse('masked-column-in-condition');
    } else if (type !== 'RangeVar') this.#mustNotShow(item);
  }

  #judgeWrite(fields: Fields): void {
    const { returningList, returningClause, relation: _, cols: __, ...rest } = fields;
    const listed = returningList ?? fieldsOf(returningClause).exprs;
    for (const target of listOf(listed)) {
      this.#judgeOutput(fieldsOf(fieldsIf('ResTarget', target)).val, true);
    }
    const { targetList, selectStmt, ...conditions } = rest as Fields;
    for (const target of listOf(targetList)) {
      this.#mustNotShow(fieldsOf(fieldsIf('ResTarget', target)).val, 'masked-column-copied');
    }
    this.#mustNotShow(selectStmt, 'masked-column-copied');
    this.#mustNotHold(conditions, 'masked-column-in-condition');
  }

  #mustNotHold(node: unknown, rule: WireRule): void {
    let holds = false;
    walk(node, (fields) => {
      if (fields.ColumnRef !== undefined) holds ||= this.#isTainted(fieldsOf(fields.ColumnRef));
      if (fields.SubLink !== undefined) holds ||= this.#readsAll(fieldsOf(fields.SubLink));
    });
    if (holds) this.#refuse(rule);
  }

  #mustNotShow(node: unknown, rule: WireRule = 'masked-column-in-condition'): void {
    if (this.shows(node)) this.#refuse(rule);
  }

  /** `x in (select * from t)`; `exists (select * ...)` takes no value. */
  #readsAll({ subLinkType, subselect }: Fields): boolean {
    return subLinkType !== 'EXISTS_SUBLINK' && this.shows(subselect);
  }

  #refuse(rule: WireRule): void {
    this.refusal ??= rule;
  }
}

/** By position; undefined if a `*` makes positions unknown, or the statement is no plain select. */
function harmlessOutputs(
  statement: unknown,
  shows: (expression: unknown) => boolean,
): readonly boolean[] | undefined {
  const fields = fieldsIf('SelectStmt', statement);
  if (fields === undefined || fields.op !== 'SETOP_NONE') return undefined;
  const outputs: boolean[] = [];
  for (const target of listOf(fields.targetList)) {
    const { val } = fieldsOf(fieldsIf('ResTarget', target));
    const parts = listOf(fieldsOf(fieldsIf('ColumnRef', val)).fields);
    if (parts.some((part) => fieldsIf('A_Star', part) !== undefined)) return undefined;
    outputs.push(isHarmless(val) && !shows(val));
  }
  return outputs;
}

function isHarmless(expression: unknown): boolean {
  const [type, fields] = nodeOf(expression) ?? ['', {}];
  if (type === 'A_Const' || type === 'ParamRef' || type === 'SQLValueFunction') return true;
  if (type === 'TypeCast') return isHarmless(fields.arg);
  return type === 'FuncCall' && tellsNothing(namesOf(fields.funcname) ?? []);
}
