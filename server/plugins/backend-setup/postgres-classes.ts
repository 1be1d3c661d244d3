import type { CatalogTable } from '../../../proto/gen/writ/admin/v1/admin_pb.ts';
import {
  type ColumnClass,
  type Columns,
  Mask,
} from '../../../proto/gen/writ/resource/v1/resource_pb.ts';

/** Tables of the catalog by `schema.table`, as grants and classes name them. */
export type TableIndex = ReadonlyMap<string, CatalogTable>;

/** How a classified column is shown. */
export interface MaskRule {
  readonly mask: Mask;
  /** Of MASK_RANGE. */
  readonly rangeSize: bigint;
}

/** Masks of the classified columns by table and column; every column named here exists. */
export type Classification = ReadonlyMap<string, ReadonlyMap<string, MaskRule>>;

const HIDDEN: MaskRule = { mask: Mask.NULL, rangeSize: 0n };

export interface ClassifyRequest {
  readonly backend: string;
  readonly tables: TableIndex;
  readonly columns: readonly Columns[];
  readonly columnClasses: readonly ColumnClass[];
}

export interface Classified {
  readonly masked: Classification;
  /** `schema.table` to the columns whose class says that they may be seen as they are. */
  readonly open: ReadonlyMap<string, ReadonlySet<string>>;
}

/**
 * Which columns are shown under which mask. Where the declarations are in doubt, the column is NULL.
 * @param warn takes a sentence about each doubt
 */
export function classify(request: ClassifyRequest, warn: (text: string) => void): Classified {
  const rules = new Map(request.columnClasses.map((one) => [one.name, one]));
  const classified = new Map<string, Map<string, MaskRule>>();
  for (const [table, column, className] of declaredColumns(request)) {
    const problem = missing(request.tables, table, column);
    if (problem !== undefined) {
      warn(problem);
      continue;
    }
    const ofTable = classified.get(table) ?? new Map<string, MaskRule>();
    classified.set(table, ofTable);
    const rule = rules.get(className);
    const before = ofTable.get(column);
    if (rule === undefined || rule.mask === Mask.UNSPECIFIED) {
      warn(`class ${className} of ${table}.${column} is not declared: the column is shown as NULL`);
      ofTable.set(column, HIDDEN);
    } else if (before !== undefined && !sameRule(before, rule)) {
      warn(`${table}.${column} is in classes with different masks: it is shown as NULL`);
      ofTable.set(column, HIDDEN);
    } else {
      ofTable.set(column, rule);
    }
  }
  return split(classified);
}

function missing(tables: TableIndex, table: string, column: string): string | undefined {
  const known = tables.get(table);
  if (known === undefined) return `classified table ${table} does not exist`;
  return known.columns.some(({ name }) => name === column)
    ? undefined
    : `classified column ${table}.${column} does not exist`;
}

function sameRule(one: MaskRule, other: MaskRule): boolean {
  return one.mask === other.mask && one.rangeSize === other.rangeSize;
}

function split(classified: Classification): Classified {
  const masked = new Map<string, ReadonlyMap<string, MaskRule>>();
  const open = new Map<string, ReadonlySet<string>>();
  for (const [table, rules] of classified) {
    const hidden = [...rules].filter(([, { mask }]) => mask !== Mask.NONE);
    const shown = [...rules].filter(([, { mask }]) => mask === Mask.NONE);
    if (hidden.length > 0) masked.set(table, new Map(hidden));
    open.set(table, new Set(shown.map(([name]) => name)));
  }
  return { masked, open };
}

function* declaredColumns(request: ClassifyRequest): Generator<[string, string, string]> {
  for (const { backend, tables } of request.columns) {
    if (backend !== request.backend) continue;
    for (const { table, columns } of tables) {
      for (const [column, className] of Object.entries(columns)) yield [table, column, className];
    }
  }
}
