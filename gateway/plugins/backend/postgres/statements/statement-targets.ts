/**
 * Which column each literal and parameter of a statement is meant for (threats S9). There is no
 * catalog here, so a column is known only where its name can mean nothing but a column of a table
 * that the statement names: a derived table, a CTE or a column alias in reach makes it unknown.
 */
import { isPlainName } from './statement-tokens.ts';
import {
  type Fields,
  fieldsIf,
  fieldsOf,
  listOf,
  namesOf,
  nodeOf,
  offsetOf,
  relationName,
  stringConstant,
  textOf,
} from './statement-tree.ts';

/** What a value is compared with or stored in. */
export interface Target {
  /** `schema.table.column`, as far as the statement says; undefined if it is not known. */
  readonly target: string | undefined;
  /** Whether any table has a classified column of that name. */
  readonly classified: boolean;
}

export interface Targets {
  /** By byte offset of the constant; a negative number's is that of its sign. */
  readonly constants: ReadonlyMap<number, Target>;
  /** Decoded string constants by byte offset, with or without a target. */
  readonly strings: ReadonlyMap<number, string>;
  readonly parameters: ReadonlyMap<number, Target>;
  /** Offsets of words that stand where a classified column's value is expected. */
  readonly suspects: ReadonlySet<number>;
}

/** What LIMIT and OFFSET take; integers there are kept. */
export const LIMIT_TARGET = 'limit';

const UNKNOWN: Target = { target: undefined, classified: false };
const COMPARISONS: ReadonlySet<string> = new Set(['=', '<>', '<', '>', '<=', '>=']);
const COMPARING_KINDS = /^AEXPR_(OP|OP_ANY|OP_ALL|DISTINCT|NOT_DISTINCT|IN|(NOT_)?BETWEEN(_SYM)?)$/;
const MATCHING_KINDS = /^AEXPR_I?LIKE$/;

/**
 * @param tree the parse result
 * @param isClassified whether any table of the backend has a classified column of that name
 */
export function findTargets(tree: unknown, isClassified: (column: string) => boolean): Targets {
  const finder = new TargetFinder(isClassified);
  finder.visit(tree, ROOT);
  return finder;
}

interface Scope {
  /** Tables by the name they go by here; undefined for what is no plain table. */
  readonly relations: ReadonlyMap<string, string | undefined>;
  /** Whether a bare name can only be a column of these tables. */
  readonly plain: boolean;
  readonly ctes: ReadonlySet<string>;
  readonly parent: Scope | undefined;
}

const ROOT: Scope = { relations: new Map(), plain: true, ctes: new Set(), parent: undefined };

class TargetFinder implements Targets {
  readonly constants = new Map<number, Target>();
  readonly strings = new Map<number, string>();
  readonly parameters = new Map<number, Target>();
  readonly suspects = new Set<number>();
  readonly #isClassified: (column: string) => boolean;

  constructor(isClassified: (column: string) => boolean) {
    this.#isClassified = isClassified;
  }

  visit(value: unknown, scope: Scope): void {
    if (Array.isArray(value)) {
      for (const item of value) this.visit(item, scope);
      return;
    }
    const node = nodeOf(value);
    if (node === undefined) this.#visitAll(fieldsOf(value), scope);
    else this.#visitNode(node[0], node[1], scope);
  }

  #visitAll(fields: Fields, scope: Scope): void {
    for (const key in fields) {
      const child = fields[key];
      if (typeof child === 'object') this.visit(child, scope);
    }
  }

  #visitNode(type: string, fields: Fields, scope: Scope): void {
    switch (type) {
      case 'A_Const':
        this.#note(fields);
        return;
      case 'ParamRef':
        this.#addParameter(Number(fields.number ?? 0), UNKNOWN);
        return;
      case 'A_Expr':
        this.#expression(fields, scope);
        return;
      case 'SelectStmt':
        this.#select(fields, scope);
        return;
      case 'InsertStmt':
        this.#insert(fields, scope);
        return;
      case 'UpdateStmt':
      case 'DeleteStmt':
        this.#change(fields, scope);
        return;
      case 'MergeStmt':
        this.#merge(fields, scope);
        return;
      default:
        this.#visitAll(fields, scope);
    }
  }

  #select(fields: Fields, outer: Scope): void {
    const { withClause, larg, rarg, fromClause, limitCount, limitOffset, ...rest } = fields;
    const parent = withCtes(fields, outer);
    this.visit(withClause, parent);
    const scope = scopeOf(listOf(fromClause), parent);
    for (const operand of [larg, rarg]) {
      if (operand !== undefined) this.#select(fieldsOf(operand), parent);
    }
    for (const item of listOf(fromClause)) this.#from(item, scope);
    for (const limit of [limitCount, limitOffset]) {
      this.#pair(limit, { target: LIMIT_TARGET, classified: false }, scope);
    }
    this.#visitAll(rest, scope);
  }

  /** A derived table sees its neighbours only if it is LATERAL. */
  #from(item: unknown, scope: Scope): void {
    const derived = fieldsIf('RangeSubselect', item);
    const reach = derived === undefined || derived.lateral === true ? scope : scope.parent;
    this.visit(item, reach ?? ROOT);
  }

  #insert(fields: Fields, outer: Scope): void {
    const { withClause, relation, cols, selectStmt, onConflictClause, ...rest } = fields;
    const parent = withCtes(fields, outer);
    this.visit(withClause, parent);
    const table = relationName(fieldsOf(relation));
    const scope = scopeOf([{ RangeVar: relation }], parent, ['excluded', table]);
    const columns = listOf(cols).map((column) => textOf(fieldsIf('ResTarget', column)?.name));
    const select = fieldsIf('SelectStmt', selectStmt);
    const rows = listOf(select?.valuesLists);
    if (select === undefined || rows.length === 0) this.visit(selectStmt, parent);
    else this.#select({ ...select, valuesLists: undefined }, parent);
    for (const row of rows) {
      for (const [index, value] of listOf(fieldsIf('List', row)?.items).entries()) {
        this.#pair(value, this.#column(table, columns[index]), parent);
      }
    }
    const { targetList, ...conflict } = fieldsOf(onConflictClause);
    this.#assign(targetList, table, scope);
    this.#visitAll(conflict, scope);
    this.#visitAll(rest, scope);
  }

  #change(fields: Fields, outer: Scope): void {
    const { withClause, relation, fromClause, usingClause, targetList, ...rest } = fields;
    const parent = withCtes(fields, outer);
    this.visit(withClause, parent);
    const from = [...listOf(fromClause), ...listOf(usingClause)];
    const scope = scopeOf([{ RangeVar: relation }, ...from], parent);
    for (const item of from) this.#from(item, scope);
    this.#assign(targetList, relationName(fieldsOf(relation)), scope);
    this.#visitAll(rest, scope);
  }

  #merge(fields: Fields, outer: Scope): void {
    const { withClause, relation, sourceRelation, mergeWhenClauses, ...rest } = fields;
    const parent = withCtes(fields, outer);
    this.visit(withClause, parent);
    const table = relationName(fieldsOf(relation));
    const scope = scopeOf([{ RangeVar: relation }, sourceRelation], parent);
    this.#from(sourceRelation, scope);
    for (const clause of listOf(mergeWhenClauses)) {
      const { targetList, values, ...when } = fieldsIf('MergeWhenClause', clause) ?? {};
      const targets = listOf(targetList);
      for (const [index, value] of listOf(values).entries()) {
        const column = textOf(fieldsIf('ResTarget', targets[index])?.name);
        this.#pair(value, this.#column(table, column), scope);
      }
      this.#assign(targetList, table, scope);
      this.#visitAll(when, scope);
    }
    this.#visitAll(rest, scope);
  }

  /** SET column = value, ... */
  #assign(targetList: unknown, table: string, scope: Scope): void {
    for (const item of listOf(targetList)) {
      const { name, val, ...rest } = fieldsIf('ResTarget', item) ?? {};
      this.#pair(val, this.#column(table, textOf(name)), scope);
      this.#visitAll(rest, scope);
    }
  }

  #expression(fields: Fields, scope: Scope): void {
    const { lexpr, rexpr } = fields;
    const left = this.#reference(lexpr, scope);
    const right = this.#reference(rexpr, scope);
    const compares = isComparison(fields);
    this.#pair(lexpr, (compares ? right : undefined) ?? UNKNOWN, scope);
    const list = fieldsIf('List', rexpr);
    const values = list === undefined ? [rexpr] : listOf(list.items);
    for (const value of values) {
      this.#pair(value, (compares ? left : undefined) ?? UNKNOWN, scope);
    }
  }

  /** A value that is meant for a target, if it is a plain constant or parameter; else what is in it. */
  #pair(value: unknown, target: Target, scope: Scope): void {
    const [type, fields] = nodeOf(withoutCast(value)) ?? [];
    if (fields === undefined) return;
    if (type === 'A_Const') {
      this.#note(fields);
      if (target.target === LIMIT_TARGET && fields.ival === undefined) return;
      this.constants.set(offsetOf(fields), target);
    } else if (type === 'ParamRef') {
      this.#addParameter(Number(fields.number ?? 0), target);
    } else {
      const names = type === 'ColumnRef' ? namesOf(fields.fields) : undefined;
      // `ssn = "536-22-8726"` and `ssn = Smith` name columns, but are likely values.
      if (target.classified && names?.length === 1) this.suspects.add(offsetOf(fields));
      this.visit(value, scope);
    }
  }

  #note(constant: Fields): void {
    const text = stringConstant({ A_Const: constant });
    if (text !== undefined) this.strings.set(offsetOf(constant), text);
  }

  /** A parameter that is used twice has a target only if both uses have one. */
  #addParameter(number: number, use: Target): void {
    const before = this.parameters.get(number) ?? use;
    const known = before.target !== undefined && use.target !== undefined;
    this.parameters.set(number, {
      target: known ? before.target : undefined,
      classified: before.classified || use.classified,
    });
  }

  #reference(value: unknown, scope: Scope): Target | undefined {
    const reference = fieldsIf('ColumnRef', withoutCast(value));
    const names = reference === undefined ? undefined : namesOf(reference.fields);
    if (names === undefined) return undefined;
    const [column = ''] = names.slice(-1);
    return { target: named(resolve(names, scope)), classified: this.#isClassified(column) };
  }

  #column(table: string, column: string | undefined): Target {
    if (column === undefined || column === '') return UNKNOWN;
    const target = named(`${table}.${column}`);
    return { target, classified: this.#isClassified(column) };
  }
}

/** Odd names are more likely values in the wrong quotes. */
function named(target: string | undefined): string | undefined {
  return target?.split('.').every(isPlainName) === true ? target : undefined;
}

function isComparison({ kind, name }: Fields): boolean {
  if (MATCHING_KINDS.test(textOf(kind))) return true;
  const [operator, ...more] = namesOf(name) ?? [];
  const known = operator !== undefined && more.length === 0 && COMPARISONS.has(operator);
  return COMPARING_KINDS.test(textOf(kind)) && (known || textOf(kind).includes('BETWEEN'));
}

function withoutCast(value: unknown): unknown {
  const cast = fieldsIf('TypeCast', value);
  return cast === undefined ? value : cast.arg;
}

function withCtes(fields: Fields, outer: Scope): Scope {
  const ctes = listOf(fieldsOf(fields.withClause).ctes);
  if (ctes.length === 0) return outer;
  const names = ctes.map((cte) => textOf(fieldsIf('CommonTableExpr', cte)?.ctename));
  return { ...outer, ctes: new Set([...outer.ctes, ...names]) };
}

/** @param extra a further name that a table goes by */
function scopeOf(from: readonly unknown[], parent: Scope, extra?: [string, string]): Scope {
  const relations = new Map<string, string | undefined>(extra === undefined ? [] : [extra]);
  let plain = true;
  const add = (item: unknown): void => {
    const [type, fields] = nodeOf(item) ?? ['', {}];
    const alias = fieldsOf(fields.alias);
    const renamed = alias.colnames !== undefined;
    if (type === 'JoinExpr' && fields.alias === undefined) {
      add(fields.larg);
      add(fields.rarg);
      return;
    }
    const isCte = fields.schemaname === undefined && parent.ctes.has(textOf(fields.relname));
    const isTable = type === 'RangeVar' && !renamed && !isCte && fields.catalogname === undefined;
    plain &&= isTable;
    const table = isTable ? relationName(fields) : undefined;
    const name = textOf(alias.aliasname) || textOf(fields.relname);
    relations.set(name, table);
    // Without an alias a table also goes by its qualified name.
    if (table !== undefined && fields.alias === undefined) relations.set(table, table);
  };
  for (const item of from) add(item);
  return { relations, plain, ctes: parent.ctes, parent };
}

function resolve(names: readonly string[], scope: Scope): string | undefined {
  const [column = ''] = names.slice(-1);
  const qualifier = names.slice(0, -1);
  if (qualifier.length === 0) return resolveBare(column, scope);
  for (let at: Scope | undefined = scope; at !== undefined; at = at.parent) {
    const table = at.relations.get(qualifier.join('.'));
    if (table !== undefined) return `${table}.${column}`;
    if (at.relations.has(qualifier.join('.'))) return undefined;
  }
  return undefined;
}

/** A bare name may belong to any table in reach, so all of them must be plain. */
function resolveBare(column: string, scope: Scope): string | undefined {
  const tables = new Set<string | undefined>();
  for (let at: Scope | undefined = scope; at !== undefined; at = at.parent) {
    if (!at.plain) return undefined;
    for (const table of at.relations.values()) tables.add(table);
  }
  const [table] = tables;
  if (table === undefined) return undefined;
  return tables.size === 1 ? `${table}.${column}` : column;
}
