/**
 * Where tables lie and where masked views stand (threats P3). In the layout `in-place` a table with
 * classified columns moves to a schema that only the views' and the table's own owner may use, and its view stands under
 * its name, so that qualified names reach it.
 */
import { createHash } from 'node:crypto';
import type { Catalog, CatalogTable } from '../../../proto/gen/writ/admin/v1/admin_pb.ts';
import type { TableIndex } from './postgres-classes.ts';
import { identifier, literal, qualified } from './postgres-quote.ts';
import { partFromSequences, REJOIN_SEQUENCES } from './postgres-sequences.ts';

const PREFIX = 'writ_base_';
const MAXIMUM_NAME_BYTES = 63;

/** Tables under the names and in the schemas that they have without Writ. */
export function indexTables(catalog: Catalog): TableIndex {
  const moved = new Set<string>();
  const tables = catalog.tables.map((table) => {
    if (!table.schema.startsWith(PREFIX)) return table;
    const home = { ...table, schema: table.schema.slice(PREFIX.length) };
    moved.add(keyOf(home));
    return home;
  });
  const index = new Map<string, CatalogTable>();
  const ambiguous = new Set<string>();
  for (const [place, table] of tables.entries()) {
    const key = keyOf(table);
    // The view that stands under a moved table's name.
    if (moved.has(key) && catalog.tables[place]?.schema === table.schema) continue;
    if (index.has(key)) ambiguous.add(key);
    index.set(key, table);
  }
  // Names with dots can make two tables look alike: then neither can be granted.
  for (const key of ambiguous) index.delete(key);
  return index;
}

function keyOf({ schema, name }: Pick<CatalogTable, 'schema' | 'name'>): string {
  return `${schema}.${name}`;
}

/** Where a table lies once it has moved; undefined if the schema's name has no room for the prefix. */
export function movedTable(table: CatalogTable): CatalogTable | undefined {
  const schema = `${PREFIX}${table.schema}`;
  return Buffer.byteLength(schema) > MAXIMUM_NAME_BYTES ? undefined : { ...table, schema };
}

/**
 * The role that owns all views of a database with the layout `in-place`.
 * @param place the backend, and the database if it is not the backend's own
 */
export function inPlaceOwner(place: readonly string[]): string {
  const hash = createHash('sha256')
    .update(JSON.stringify(['in-place', ...place]))
    .digest('hex');
  return `writ_o_${hash.slice(0, 16)}`;
}

/** Moves a table away and tells who named it until now. */
export function moveAway(table: CatalogTable, moved: CatalogTable): string {
  return `CREATE SCHEMA IF NOT EXISTS ${identifier(moved.schema)};
${partFromSequences(table)}
ALTER TABLE ${qualified(table)} SET SCHEMA ${identifier(moved.schema)};
DO $writ$
DECLARE
  others text;
BEGIN
  -- Foreign keys look their rows up as the table's owner.
  EXECUTE (SELECT format('GRANT USAGE ON SCHEMA %I TO %s', ${literal(moved.schema)}::name, c.relowner::regrole)
    FROM pg_class c WHERE c.oid = ${literal(qualified(moved))}::regclass);
  SELECT string_agg(DISTINCT a.grantee::regrole::text, ', ') INTO others
    FROM pg_class c, aclexplode(c.relacl) a
    WHERE c.oid = ${literal(qualified(moved))}::regclass AND a.grantee NOT IN (0, c.relowner);
  IF others IS NOT NULL THEN
    RAISE WARNING 'these roles have rights on a table that moved, and none on the view in its place: %', others;
  END IF;
END $writ$;`;
}

/** Brings every moved table home. The views under their names are gone by then. */
export const MOVE_HOME = `DO $writ$
DECLARE
  moved record;
BEGIN
  FOR moved IN SELECT c.oid::regclass AS relation, substr(n.nspname, ${PREFIX.length + 1}) AS home
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname ~ '^${PREFIX}' AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  LOOP
    EXECUTE format('ALTER TABLE %s SET SCHEMA %I', moved.relation, moved.home);
  END LOOP;
  FOR moved IN SELECT n.nspname AS name FROM pg_namespace n WHERE n.nspname ~ '^${PREFIX}' LOOP
    EXECUTE format('DROP SCHEMA %I', moved.name);
  END LOOP;
END $writ$;
${REJOIN_SEQUENCES}`;
