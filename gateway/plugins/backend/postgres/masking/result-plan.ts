/**
 * What a RowDescription says of a result, and what follows for each of its columns.
 *
 * Source: PostgreSQL 15, RowDescription. Measured on 15.18: a table's number and a column's survive
 * aliases, subqueries, CTEs and RETURNING; a whole row has the table's with column 0; an expression
 * has neither; a view's column has the view's.
 */
import { Mask } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../../../../runtime/fault.ts';
import type { BodyReader } from '../wire/message-body.ts';
import type { ColumnMask } from './mask-value.ts';
import { maskValue } from './mask-value.ts';
import type { StatementReach } from './statement-reach.ts';

export interface ColumnRule {
  /** As `schema.table.column`, for the record. */
  readonly column: string;
  readonly mask: Mask;
  readonly rangeSize: bigint;
}

/** How results of one relation are shown. */
export interface RelationRules {
  readonly columns: ReadonlyMap<number, ColumnRule>;
  /** Columns that are not named are masked whole: a view, of which it is not known what shows what. */
  readonly othersHidden: boolean;
  /** `schema.table`. */
  readonly name: string;
  /** Number of its last column when the catalog was read; a later one is masked whole. */
  readonly lastKnown: number;
}

export interface ResultRules {
  hashKey(): Uint8Array;
  /** Undefined if the number is not known, so that all of the relation is masked. */
  relation(oid: number): RelationRules | 'open' | undefined;
  /** Something is not known that a newer catalog may tell. */
  outdated(): void;
}

/** By position of the column; undefined for one that is shown. */
export interface ResultPlan {
  readonly columns: readonly (ColumnMask | undefined)[];
  /** False if every column is shown. */
  readonly masks: boolean;
  /** Names of what is masked, for the record. */
  readonly maskedColumns: readonly string[];
}

export const SHOWN: ResultPlan = { columns: [], masks: false, maskedColumns: [] };

/** Type, length and number of cells. */
const FIRST_CELL = 7;

/** The plan for a result of a statement. @throws Fault PROTOCOL_VIOLATION */
export function planResult(
  body: BodyReader,
  reach: StatementReach,
  rules: ResultRules,
): ResultPlan {
  const columns: (ColumnMask | undefined)[] = [];
  const maskedColumns = new Set<string>();
  const count = body.count();
  for (let index = 0; index < count; index += 1) {
    const name = body.cstringBytes().toString('utf8');
    const relation = body.int32() >>> 0;
    const attribute = body.int16();
    const typeOid = body.int32() >>> 0;
    body.int16();
    const typmod = body.int32();
    const binary = body.int16() === 1;
    const rule =
      relation === 0
        ? ruleOfExpression(index, count, name, reach)
        : ruleOfColumn(relation, attribute, rules);
    if (rule === undefined) columns.push(undefined);
    else {
      const { mask, rangeSize } = rule;
      const hashKey = rules.hashKey();
      columns.push({ mask, rangeSize, typeOid, typmod, binary, hashKey });
      maskedColumns.add(rule.column);
    }
  }
  body.finish();
  const masks = maskedColumns.size > 0;
  return masks ? { columns, masks, maskedColumns: [...maskedColumns] } : SHOWN;
}

function whole(column: string): ColumnRule {
  return { column, mask: Mask.FULL, rangeSize: 0n };
}

function ruleOfColumn(oid: number, attribute: number, rules: ResultRules): ColumnRule | undefined {
  const relation = rules.relation(oid);
  if (relation === 'open') return undefined;
  if (relation === undefined) {
    rules.outdated();
    return whole('?');
  }
  // A whole row holds every column.
  if (attribute === 0) return whole(relation.name);
  const rule = relation.columns.get(attribute);
  if (rule !== undefined) return rule.mask === Mask.NONE ? undefined : rule;
  if (attribute > relation.lastKnown) {
    rules.outdated();
    return whole(relation.name);
  }
  return relation.othersHidden ? whole(relation.name) : undefined;
}

/** An expression is shown if nothing that is masked can be in it. */
function ruleOfExpression(
  index: number,
  count: number,
  name: string,
  reach: StatementReach,
): ColumnRule | undefined {
  if (!reach.touches) return undefined;
  const isHarmless = reach.outputs?.length === count && reach.outputs[index] === true;
  return isHarmless ? undefined : whole(name.length > 64 ? '?' : `(${name})`);
}

/** Masks one whole DataRow, `data[start]` being its type. @returns undefined if it stands in `data` */
export function maskRow(
  { columns }: ResultPlan,
  data: Buffer,
  start: number,
  end: number,
): Buffer | undefined {
  let cells: (Buffer | null | undefined)[] | undefined;
  let longer = 0;
  let at = start + FIRST_CELL;
  if (at > end || data.readUInt16BE(at - 2) !== columns.length) throw mismatch();
  for (let index = 0; index < columns.length; index += 1) {
    const length = cellLength(data, at, end);
    at += 4;
    if (length === -1) continue;
    const masked = maskCell(columns[index], data, at, length);
    if (masked !== undefined) {
      cells ??= new Array(columns.length).fill(undefined);
      cells[index] = masked;
      longer += (masked?.length ?? 0) - length;
    }
    at += length;
  }
  if (at !== end) throw mismatch();
  return cells === undefined ? undefined : rebuild(data.subarray(start, end), cells, longer);
}

/** @returns undefined if the cell is right as it then stands in `data` */
function maskCell(
  column: ColumnMask | undefined,
  data: Buffer,
  at: number,
  length: number,
): Buffer | null | undefined {
  if (column === undefined) return undefined;
  const masked = maskValue(column, data.subarray(at, at + length));
  if (masked === null || masked.length !== length) return masked;
  masked.copy(data, at);
  return undefined;
}

/** -1 for SQL NULL. */
function cellLength(data: Buffer, at: number, end: number): number {
  if (end - at < 4) throw mismatch();
  const length = data.readInt32BE(at);
  if (length < -1 || length > end - at - 4) throw mismatch();
  return length;
}

function mismatch(): Fault {
  return new Fault('PROTOCOL_VIOLATION', 'a row does not fit its description');
}

function rebuild(
  row: Buffer,
  cells: readonly (Buffer | null | undefined)[],
  longer: number,
): Buffer {
  const made = Buffer.allocUnsafe(row.length + longer);
  let from = 0;
  let to = 0;
  let at = FIRST_CELL;
  for (const cell of cells) {
    const length = row.readInt32BE(at);
    const next = at + 4 + Math.max(0, length);
    if (cell !== undefined) {
      to += row.copy(made, to, from, at);
      made.writeInt32BE(cell === null ? -1 : cell.length, to);
      to += 4;
      if (cell !== null) to += cell.copy(made, to);
      from = next;
    }
    at = next;
  }
  row.copy(made, to, from);
  made.writeInt32BE(made.length - 1, 1);
  return made;
}
