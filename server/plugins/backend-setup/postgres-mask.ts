/**
 * The expression that stands in a view in place of a classified column. It is made of built-in
 * functions alone, never raises (an error message would show the value, threats P4), and has the
 * column's own type, so that a client's driver parses the result as before.
 */
import type { CatalogColumn } from '../../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Mask } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { MaskRule } from './postgres-classes.ts';
import { identifier, qualified } from './postgres-quote.ts';

/** How one column is shown. */
export interface MaskedColumn {
  readonly expression: string;
  /** Whether the view's owner must be able to read the column. */
  readonly readsColumn: boolean;
  /** False where the mask has no form for the column's type, so that NULL stands in its place. */
  readonly fits: boolean;
  /** Whether the view's owner must be able to read the key of hashes. */
  readonly readsKey: boolean;
}

const TEXT_TYPE = /^(text|character varying(\(\d{1,8}\))?|bpchar|character\(\d{1,8}\))$/;
const NUMBER_TYPE =
  /^(smallint|integer|bigint|real|double precision|numeric(\(\d{1,4}(,\d{1,4})?\))?)$/;
const DATE_TYPE = /^date$/;
const TIMESTAMP_TYPE = /^timestamp(\(\d\))? (with|without) time zone$/;

/** Shorter values show no character at all, so that at least half of a value stays hidden. */
const SHORTEST_FOR_LAST4 = 8;

/** @param table whose column it is; the expression reads it under the alias `t` */
export function maskColumn(
  table: { readonly schema: string; readonly name: string },
  column: CatalogColumn,
  rule: MaskRule,
): MaskedColumn {
  const { mask } = rule;
  const value = `t.${identifier(column.name)}`;
  const expression = maskValue(rule, value, column.type);
  if (expression !== undefined) {
    const readsColumn = expression.includes(value);
    return { expression, readsColumn, fits: true, readsKey: mask === Mask.HASH };
  }
  // A field of a NULL row is a NULL of the column's type: no cast, so no domain constraint is checked.
  return {
    expression: `(NULL::${qualified(table)}).${identifier(column.name)}`,
    readsColumn: false,
    fits: mask === Mask.NULL || mask === Mask.FULL,
    readsKey: false,
  };
}

/**
 * What stands in place of a value.
 * @param value an expression of type `type`
 * @returns undefined if the mask has no form for the type but NULL
 */
export function maskValue(
  { mask, rangeSize }: MaskRule,
  value: string,
  type: string,
): string | undefined {
  if (mask === Mask.YEAR) return yearOf(value, type);
  if (mask === Mask.RANGE) return rangeOf(value, type, rangeSize);
  if (mask === Mask.HASH) return hashOf(value, type);
  if (!TEXT_TYPE.test(type)) return undefined;
  // An explicit cast cuts what is too long; it does not raise.
  switch (mask) {
    case Mask.FULL:
      return `'***'::${type}`;
    case Mask.LAST4:
      return `(${lastFour(`${value}::text`)})::${type}`;
    case Mask.EMAIL:
      return `(${emailOf(`${value}::text`)})::${type}`;
    default:
      return undefined;
  }
}

function lastFour(text: string): string {
  return (
    `CASE WHEN length(${text}) >= ${SHORTEST_FOR_LAST4}` +
    ` THEN repeat('*', length(${text}) - 4) || right(${text}, 4)` +
    ` ELSE repeat('*', length(${text})) END`
  );
}

/** Before 18 a search raises under a collation that is not deterministic: it is made under "C". */
function emailOf(text: string): string {
  const place = (of: string) => `position('@' in (${of} COLLATE pg_catalog."C"))`;
  return (
    `CASE WHEN ${place(text)} > 1` +
    ` THEN left(${text}, 1) || '***@' || right(${text}, ${place(`reverse(${text})`)} - 1)` +
    ` WHEN ${text} IS NOT NULL THEN '***' END`
  );
}

/** Bounds keep out infinity and the first, partial year of each type's range: both would raise. */
function yearOf(value: string, type: string): string | undefined {
  if (DATE_TYPE.test(type)) {
    return (
      `CASE WHEN ${value} BETWEEN date '4713-01-01 BC' AND date '5874897-12-31'` +
      ` THEN make_date(extract(year FROM ${value})::int, 1, 1) END`
    );
  }
  if (!TIMESTAMP_TYPE.test(type)) return undefined;
  const zoned = type.endsWith('with time zone');
  const first = `${zoned ? 'timestamptz' : 'timestamp'} '4713-01-02 00:00:00 BC'`;
  // The zone is named: a client's own TimeZone would move the border of the year.
  const year = `date_trunc('year', ${value}${zoned ? ", 'UTC'" : ''})`;
  return `(CASE WHEN ${value} >= ${first} AND isfinite(${value}) THEN ${year} END)::${type}`;
}

const FLOAT_MOST: ReadonlyMap<string, string> = new Map([
  ['real', '1e37'],
  ['double precision', '1e300'],
]);

/** Cut towards zero: no multiple of the size is farther from zero than the value, so none overflows. */
function rangeOf(value: string, type: string, size: bigint): string | undefined {
  if (size < 1n || !NUMBER_TYPE.test(type)) return undefined;
  const cut = `(div(${value}::numeric, ${size}) * ${size})::${type}`;
  const most = FLOAT_MOST.get(type);
  // A float that is nearly the largest is rounded up on its way to numeric, and does not come back.
  return most === undefined ? cut : `CASE WHEN abs(${value}) < '${most}' THEN ${cut} END`;
}

/** Hex digits for a text: fewer would make different values look alike. */
const FEWEST_DIGITS = 10;
const KEY = (part: string) => `(SELECT k.${part} FROM writ.mask_key AS k)`;

/**
 * HMAC-SHA256 (RFC 2104) of the value's text under the key of the backend, from built-in functions:
 * a session may call those, but not read the key (threats P4).
 */
function hashOf(value: string, type: string): string | undefined {
  const bytes = `convert_to(${value}::text, getdatabaseencoding())`;
  const inner = `sha256(${KEY('inner_pad')} || ${bytes})`;
  const hex = `encode(sha256(${KEY('outer_pad')} || ${inner}), 'hex')`;
  const length = /\((\d+)\)$/.exec(type)?.[1];
  switch (true) {
    case TEXT_TYPE.test(type):
      return Number(length ?? 64) < FEWEST_DIGITS ? undefined : `(${hex})::${type}`;
    case type === 'uuid':
      return `left(${hex}, 32)::uuid`;
    case type === 'bigint' || type === 'numeric':
      return `('x' || left(${hex}, 15))::bit(60)::bigint::${type}`;
    case type === 'integer':
      return `(('x' || left(${hex}, 8))::bit(32)::integer & 2147483647)`;
    default:
      return undefined;
  }
}
