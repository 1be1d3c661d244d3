import { type Fields, fieldsOf, namesOf, walk } from '../statements/statement-tree.ts';
import { neverRaises } from './plain-functions.ts';

const TEXT_TYPES: ReadonlySet<string> = new Set(['text', 'varchar', 'bpchar', 'name']);
const QUIET_OPERATOR = /^(\|\||=|<>|<|>|<=|>=|!=)$/;

/**
 * Whether a value in the expression decides more than that expression's own bytes: whether an error is
 * raised, how many rows there are, how long it takes.
 */
export function decides(expression: unknown): boolean {
  let found = false;
  walk(expression, (fields) => {
    if (fields.CaseExpr !== undefined || fields.SubLink !== undefined) found = true;
    if (fields.XmlExpr !== undefined) found = true;
    if (fields.FuncCall !== undefined) found ||= !isQuietCall(fieldsOf(fields.FuncCall));
    if (fields.TypeCast !== undefined) found ||= !isTextCast(fieldsOf(fields.TypeCast));
    if (fields.A_Expr !== undefined) {
      const operator = namesOf(fieldsOf(fields.A_Expr).name) ?? [];
      found ||= operator.length !== 1 || !QUIET_OPERATOR.test(operator[0] ?? '');
    }
  });
  return found;
}

function isQuietCall({ funcname, over, agg_filter, agg_order }: Fields): boolean {
  const isPlainCall = over === undefined && agg_filter === undefined && agg_order === undefined;
  return isPlainCall && neverRaises(namesOf(funcname) ?? []);
}

function isTextCast({ typeName }: Fields): boolean {
  const type = namesOf(fieldsOf(typeName).names)?.at(-1) ?? '';
  return TEXT_TYPES.has(type) && fieldsOf(typeName).arrayBounds === undefined;
}
