/**
 * Whether an UPDATE, DELETE or MERGE says which rows it means. A condition that names no column, or
 * compares a column with itself, means all of them. The answer does not depend on the values of literals.
 */
import { type Fields, fieldsIf, fieldsOf, listOf, nodeOf, textOf, walk } from './statement-tree.ts';

/** @param type of the statement, e.g. `DeleteStmt`; others than the three are bounded */
export function isUnbounded(type: string, fields: Fields): boolean {
  if (type === 'UpdateStmt' || type === 'DeleteStmt') return !selects(fields.whereClause);
  return type === 'MergeStmt' && !selects(fields.joinCondition);
}

function selects(condition: unknown): boolean {
  const [type, fields] = nodeOf(condition) ?? ['', {}];
  if (type === 'CurrentOfExpr') return true;
  if (type === 'BoolExpr') {
    const args = listOf(fields.args);
    if (fields.boolop === 'AND_EXPR') return args.some(selects);
    return args.length > 0 && args.every(selects);
  }
  return namesColumn(condition) && !comparesWithItself(type, fields);
}

function namesColumn(condition: unknown): boolean {
  let found = false;
  walk({ condition }, (fields) => {
    found ||= fields.ColumnRef !== undefined;
  });
  return found;
}

function comparesWithItself(type: string, { kind, lexpr, rexpr }: Fields): boolean {
  if (type !== 'A_Expr' || !textOf(kind).startsWith('AEXPR_')) return false;
  const [left, right] = [lexpr, rexpr].map((side) => columnOf(side));
  return left !== undefined && left === right;
}

function columnOf(value: unknown): string | undefined {
  const column = fieldsIf('ColumnRef', value);
  return column === undefined ? undefined : JSON.stringify(listOf(column.fields).map(fieldsOf));
}
