/** What `writ backend setup` needs to know of a database, read over an administrator's connection. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import pg from 'pg';
import type { CatalogSchema } from '../proto/gen/writ/admin/v1/admin_pb.ts';

const TABLES = `
select n.nspname as schema, c.relname as name, pg_get_userbyid(c.relowner) as owner,
       json_agg(json_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
                  'generated', a.attgenerated <> '' or a.attidentity = 'a')
                order by a.attnum) as columns,
       (select coalesce(json_agg(k.attname), '[]') from pg_attribute k
          where k.attrelid = c.oid and k.attnum = any ((
            select (i.indkey::int2[])[0:i.indnkeyatts - 1] from pg_index i
              where i.indrelid = c.oid and i.indisunique and i.indisvalid
                and i.indpred is null and i.indexprs is null
                and not exists (select from pg_attribute n where n.attrelid = c.oid
                  and n.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1]) and not n.attnotnull)
              order by i.indisprimary desc, i.indexrelid limit 1)::int2[])) as key
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relkind in ('r', 'p', 'v', 'm', 'f')
  and n.nspname not in ('pg_catalog', 'information_schema', 'writ')
  and n.nspname !~ '^(pg_toast|pg_temp|writ_v_)'
group by c.oid, 1, 2, 3
order by 1, 2`;

interface TableRow {
  readonly schema: string;
  readonly name: string;
  readonly owner: string;
  readonly columns: { name: string; type: string; generated: boolean }[];
  readonly key: string[];
}

/** What the last setup remembered, if there was one that did. */
const KNOWN = `
select schema, name, json_agg(json_build_object('name', column_name, 'type', type)) as columns
from writ.known_column group by 1, 2`;

type KnownRow = Pick<TableRow, 'schema' | 'name' | 'columns'>;

/** @param loginUser the gateway's login, as the backend names it */
export async function readCatalog(
  client: pg.ClientBase,
  loginUser: string,
): Promise<MessageInitShape<typeof CatalogSchema>> {
  const version = await client.query<{ version: number; database: string }>(
    `select current_setting('server_version_num')::int as version, current_database() as database`,
  );
  const tables = await client.query<TableRow>(TABLES);
  const remembered = await client.query<{ there: boolean }>(
    "select to_regclass('writ.known_column') is not null as there",
  );
  const known =
    remembered.rows[0]?.there === true ? await client.query<KnownRow>(KNOWN) : undefined;
  const login = await client.query('select from pg_roles where rolname = $1', [loginUser]);
  return {
    serverVersion: version.rows[0]?.version ?? 0,
    database: version.rows[0]?.database ?? '',
    tables: tables.rows,
    known: known?.rows ?? [],
    loginExists: login.rowCount === 1,
  };
}

/** Runs `use` on a connection of its own. */
export async function withPostgres<T>(
  config: pg.ClientConfig,
  use: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client({ connectionTimeoutMillis: 5000, ...config });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}
