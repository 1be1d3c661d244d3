import type { Catalog, CatalogTable } from '../../../proto/gen/writ/admin/v1/admin_pb.ts';
import {
  type ColumnClass,
  type Columns,
  Mask,
} from '../../../proto/gen/writ/resource/v1/resource_pb.ts';

/** Tables of the catalog by `schema.table`, as grants and classes name them. */
export type TableIndex = ReadonlyMap<string, CatalogTable>;

/** Masks of the classified columns by table and column; every column named here exists. */
export type Classification = ReadonlyMap<string, ReadonlyMap<string, Mask>>;

export function indexTables(catalog: Catalog): TableIndex {
  const index = new Map<string, CatalogTable>();
  const ambiguous = new Set<string>();
  for (const table of catalog.tables) {
    const key = `${table.schema}.${table.name}`;
    if (index.has(key)) ambiguous.add(key);
    index.set(key, table);
  }
  // Names with dots can make two tables look alike: then neither can be granted.
  for (const key of ambiguous) index.delete(key);
  return index;
}

export interface ClassifyRequest {
  readonly backend: string;
  readonly tables: TableIndex;
  readonly columns: readonly Columns[];
  readonly columnClasses: readonly ColumnClass[];
}

/**
 * Which columns are shown under which mask. Where the declarations are in doubt, the column is NULL.
 * @param warn takes a sentence about each doubt
 */
export function classify(request: ClassifyRequest, warn: (text: string) => void): Classification {
  const masks = new Map(request.columnClasses.map(({ name, mask }) => [name, mask]));
  const classified = new Map<string, Map<string, Mask>>();
  for (const [table, column, className] of declaredColumns(request)) {
    const known = request.tables.get(table);
    if (known === undefined) {
      warn(`classified table ${table} does not exist`);
      continue;
    }
    if (!known.columns.some(({ name }) => name === column)) {
      warn(`classified column ${table}.${column} does not exist`);
      continue;
    }
    const ofTable = classified.get(table) ?? new Map<string, Mask>();
    classified.set(table, ofTable);
    const mask = masks.get(className) ?? Mask.UNSPECIFIED;
    const before = ofTable.get(column) ?? mask;
    if (mask === Mask.UNSPECIFIED) {
      warn(`class ${className} of ${table}.${column} is not declared: the column is shown as NULL`);
    } else if (mask !== before) {
      warn(`${table}.${column} is in classes with different masks: it is shown as NULL`);
    }
    ofTable.set(column, mask === Mask.UNSPECIFIED || mask !== before ? Mask.NULL : mask);
  }
  return classified;
}

function* declaredColumns(request: ClassifyRequest): Generator<[string, string, string]> {
  for (const { backend, tables } of request.columns) {
    if (backend !== request.backend) continue;
    for (const { table, columns } of tables) {
      for (const [column, className] of Object.entries(columns)) yield [table, column, className];
    }
  }
}
