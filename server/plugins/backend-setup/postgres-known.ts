/** Columns that came or changed since the last setup are hidden until someone classifies them. */
import type { Catalog, CatalogColumn } from '../../../proto/gen/writ/admin/v1/admin_pb.ts';
import type { Classified, TableIndex } from './postgres-classes.ts';
import type { GrantPlan } from './postgres-grant.ts';
import { literal } from './postgres-quote.ts';
import type { ColumnIndex } from './postgres-table-rights.ts';

/**
 * The columns that the plan takes for known. A column that came or changed its type after the last
 * setup is not, and so is not granted with its table, until it is classified.
 * @param warn takes a sentence about each column that stays hidden
 */
export function knownColumns(
  catalog: Pick<Catalog, 'known'>,
  tables: TableIndex,
  { masked, open }: Classified,
  warn: (text: string) => void,
): ColumnIndex {
  const before = new Map(
    catalog.known.map(({ schema, name, columns }) => [`${schema}.${name}`, typesOf(columns)]),
  );
  const known = new Map<string, readonly CatalogColumn[]>();
  for (const [name, { columns }] of tables) {
    const types = before.get(name) ?? typesOf(columns);
    const isKnown = (column: CatalogColumn) =>
      types.get(column.name) === column.type ||
      masked.get(name)?.has(column.name) === true ||
      open.get(name)?.has(column.name) === true;
    known.set(name, columns.filter(isKnown));
    for (const column of columns.filter((one) => !isKnown(one))) {
      warn(`${name}.${column.name} is new or has a new type: it is hidden until it is classified`);
    }
  }
  return known;
}

function typesOf(columns: readonly CatalogColumn[]): ReadonlyMap<string, string> {
  return new Map(columns.map(({ name, type }) => [name, type]));
}

/** Names of the tables whose columns are remembered: once granted, for as long as they exist. */
export function knownTables(
  catalog: Pick<Catalog, 'known'>,
  grants: readonly Pick<GrantPlan, 'tables'>[],
): string[] {
  const before = catalog.known.map(({ schema, name }) => `${schema}.${name}`);
  return [...new Set([...before, ...grants.flatMap(({ tables }) => tables)])];
}

/** Keeps what is known for the next plan and for writ.drift(). */
export function rememberColumns(
  names: readonly string[],
  tables: TableIndex,
  known: ColumnIndex,
): string {
  const rows = names.flatMap((key) => {
    const table = tables.get(key);
    if (table === undefined) return [];
    return (known.get(key) ?? []).map(
      ({ name, type }) => `(${[table.schema, table.name, name, type].map(literal).join(', ')})`,
    );
  });
  const insert = `INSERT INTO writ.known_column VALUES\n  ${rows.join(',\n  ')};`;
  return ['DELETE FROM writ.known_column;', ...(rows.length > 0 ? [insert] : [])].join('\n');
}
