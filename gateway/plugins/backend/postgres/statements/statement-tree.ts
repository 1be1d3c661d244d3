/**
 * The parse tree as libpg_query writes it: JSON in which a node is an object with one key, its type,
 * and fields of default value are left out. It is read as unknown data: what does not look as
 * expected is not understood, and what is not understood is refused or hidden.
 */

/** Fields of a node. */
export type Fields = Readonly<Record<string, unknown>>;

/** A node's type and fields; undefined if the value is no node. */
export function nodeOf(value: unknown): readonly [string, Fields] | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  let only: string | undefined;
  for (const key in value) {
    if (only !== undefined) return undefined;
    only = key;
  }
  if (only === undefined || !isNodeType(only)) return undefined;
  return [only, fieldsOf((value as Fields)[only])];
}

/** Whether a key is a node's type, such as `SelectStmt`, rather than a field's name. */
export function isNodeType(key: string): boolean {
  const first = key.charCodeAt(0);
  return first >= 0x41 && first <= 0x5a;
}

/** Fields of the node if it has this type. */
export function fieldsIf(type: string, value: unknown): Fields | undefined {
  const node = nodeOf(value);
  return node?.[0] === type ? node[1] : undefined;
}

export function fieldsOf(value: unknown): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Fields)
    : {};
}

export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

export function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

/** The strings of a list of String nodes, such as a name in parts; undefined if it holds others. */
export function namesOf(value: unknown): string[] | undefined {
  const names: string[] = [];
  for (const part of listOf(value)) {
    const text = fieldsIf('String', part);
    if (text === undefined) return undefined;
    names.push(textOf(text.sval));
  }
  return names;
}

/** Byte offset in the statement's text. */
export function offsetOf(fields: Fields): number {
  return typeof fields.location === 'number' ? fields.location : 0;
}

/** The text of a string constant, decoded; undefined for other constants. */
export function stringConstant(value: unknown): string | undefined {
  const constant = fieldsIf('A_Const', value);
  return constant?.sval === undefined ? undefined : textOf(fieldsOf(constant.sval).sval);
}

/** Calls `visit` with every object in the tree, parents first. */
export function walk(tree: unknown, visit: (fields: Fields) => void): void {
  if (Array.isArray(tree)) {
    for (const item of tree) walk(item, visit);
    return;
  }
  if (typeof tree !== 'object' || tree === null) return;
  const fields = tree as Fields;
  visit(fields);
  for (const key in fields) {
    const child = fields[key];
    if (typeof child === 'object') walk(child, visit);
  }
}

/** Names of the common table expressions anywhere in the tree. */
export function cteNames(tree: unknown): ReadonlySet<string> {
  const names = new Set<string>();
  walk(tree, (fields) => {
    if (fields.CommonTableExpr !== undefined) {
      names.add(textOf(fieldsOf(fields.CommonTableExpr).ctename));
    }
  });
  return names;
}

/** What a tree names, in all its statements. */
export interface TreeNames {
  /** `schema.table` or `table` of every relation, each once. */
  readonly tables: readonly string[];
  /** As `tables`, with what common table expressions hide. */
  readonly relations: ReadonlySet<string>;
  /** `schema.name` or `name` of every function that is called. */
  readonly functions: ReadonlySet<string>;
  /** Whether a setting is set, by its name. */
  readonly setsSettings: boolean;
  /** How many rows each VALUES has. */
  readonly rowCounts: readonly number[];
}

export function namesOfTree(tree: unknown): TreeNames {
  const ctes = new Set<string>();
  const tables = new Set<string>();
  const relations = new Set<string>();
  const functions = new Set<string>();
  const rowCounts: number[] = [];
  let setsSettings = false;
  walk(tree, (fields) => {
    if (typeof fields.relname === 'string') tables.add(relationName(fields));
    if (fields.CommonTableExpr !== undefined) {
      ctes.add(textOf(fieldsOf(fields.CommonTableExpr).ctename));
    }
    if (fields.funcname !== undefined) addName(functions, namesOf(fields.funcname));
    // DROP, COMMENT, GRANT on names without a RangeVar.
    if (fields.List !== undefined) {
      addName(relations, namesOf(fieldsIf('List', fields)?.items)?.slice(-2));
    }
    setsSettings ||= fields.VariableSetStmt !== undefined;
    if (fields.valuesLists !== undefined) rowCounts.push(listOf(fields.valuesLists).length);
  });
  for (const name of tables) relations.add(name);
  const shown = [...tables].filter((name) => !ctes.has(name)).sort();
  return { tables: shown, relations, functions, setsSettings, rowCounts };
}

function addName(names: Set<string>, parts: readonly string[] | undefined): void {
  const name = parts?.join('.') ?? '';
  if (name !== '') names.add(name);
}

/** @param relation fields of a RangeVar */
export function relationName(relation: Fields): string {
  const schema = textOf(relation.schemaname);
  const name = textOf(relation.relname);
  return schema === '' ? name : `${schema}.${name}`;
}
