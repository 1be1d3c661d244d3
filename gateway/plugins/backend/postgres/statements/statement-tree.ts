/**
 * The parse tree as libpg_query writes it: JSON in which a node is an object with one key, its type,
 * and fields of default value are left out. It is read as unknown data: what does not look as
 * expected is not understood, and what is not understood is refused or hidden.
 */

/** Fields of a node. */
export type Fields = Readonly<Record<string, unknown>>;

/** A node's type and fields; undefined if the value is no node. */
export function nodeOf(value: unknown): readonly [string, Fields] | undefined {
  const entries = Object.entries(fieldsOf(value));
  const [type, fields] = entries[0] ?? [];
  if (entries.length !== 1 || type === undefined || !/^[A-Z]/.test(type)) return undefined;
  return [type, fieldsOf(fields)];
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
  visit(tree as Fields);
  for (const child of Object.values(tree)) walk(child, visit);
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

/** `schema.table` or `table` of every relation that the tree names, each once. */
export function tableNames(tree: unknown): string[] {
  const ctes = cteNames(tree);
  const tables = new Set<string>();
  walk(tree, (fields) => {
    if (typeof fields.relname !== 'string') return;
    const name = relationName(fields);
    if (!ctes.has(name)) tables.add(name);
  });
  return [...tables].sort();
}

/** As `tableNames`, with what common table expressions hide. */
export function relationNames(tree: unknown): ReadonlySet<string> {
  const names = new Set<string>();
  walk(tree, (fields) => {
    if (typeof fields.relname === 'string') names.add(relationName(fields));
    // DROP, COMMENT, GRANT on names without a RangeVar.
    const parts = fieldsIf('List', fields)?.items;
    const name = namesOf(parts)?.slice(-2).join('.') ?? '';
    if (name !== '') names.add(name);
  });
  return names;
}

/** `schema.name` or `name` of every function that the tree calls. */
export function functionNames(tree: unknown): ReadonlySet<string> {
  const names = new Set<string>();
  walk(tree, (fields) => {
    const name = namesOf(fields.funcname)?.join('.') ?? '';
    if (name !== '') names.add(name);
  });
  return names;
}

/** @param relation fields of a RangeVar */
export function relationName(relation: Fields): string {
  const schema = textOf(relation.schemaname);
  const name = textOf(relation.relname);
  return schema === '' ? name : `${schema}.${name}`;
}
