/** What ordinary clients and tools send on a grant to read: none of it may be refused. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { hasProgram, skipWithout } from '../fixtures/programs.ts';
import { readingWorkload, type Workload } from '../fixtures/workload.ts';
import { type Outcome, type RunningUp, runProgram, startUp } from '../fixtures/writ-up.ts';

describe('ordinary clients', () => {
  let up: RunningUp;
  let workload: Workload;
  let folder: string;
  let env: NodeJS.ProcessEnv;

  before(async function () {
    this.timeout(90_000);
    up = await startUp();
    workload = await readingWorkload(up, 'reader');
    folder = await mkdtemp(join(tmpdir(), 'writ-test-clients-'));
    const { cert, key, ca } = await workload.writeFiles(folder);
    const [PGHOST, PGPORT] = up.json.gateway.postgres.split(':');
    const { backend: PGDATABASE } = up.json.demo;
    const tls = {
      PGSSLMODE: 'verify-full',
      PGSSLCERT: cert,
      PGSSLKEY: key,
      PGSSLROOTCERT: ca,
    };
    env = { ...process.env, ...tls, PGHOST, PGPORT, PGDATABASE, PGUSER: 'app', PAGER: 'cat' };
  });
  after(async function () {
    this.timeout(30_000);
    await workload[Symbol.asyncDispose]();
    await up[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  async function psql(script: string): Promise<Outcome> {
    const file = join(folder, 'script.sql');
    await writeFile(file, script);
    return runProgram('psql', ['-X', '-v', 'ON_ERROR_STOP=1', '-f', file], { env });
  }

  it('G5 run psql with its own commands', async function () {
    this.timeout(30_000);
    if (!hasProgram('psql')) skipWithout(this, 'psql');
    const { status, stdout, stderr } = await psql(`
      \\timing on
      \\dt
      \\d public.orders
      \\d+ customers
      \\du
      \\dn+
      \\df
      \\dp
      \\dx
      \\di
      \\dv+
      \\conninfo
      select 1 as a \\gdesc
      \\copy (select id from orders order by id limit 2) to stdout
      \\set FETCH_COUNT 100
      select id from orders limit 250 \\g /dev/null
      \\unset FETCH_COUNT
      begin; savepoint a; rollback to a; release a; commit;
      show all;
      explain (analyze, verbose) select * from customers;`);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /customers/);
  });

  it('G5 read catalogs, set what they are used to set, and use every kind of query', async () => {
    const client = await workload.connect();
    for (const sql of SENT_BY_CLIENTS) {
      await assert.doesNotReject(client.query(sql), sql);
      await client.query('rollback');
    }
    await client.end();
  }).timeout(30_000);

  it('G5 keep a pool, parameters of every type and names of prepared statements', async () => {
    const pool = new pg.Pool({ ...workload.config(), max: 4, application_name: 'pool' });
    const values = ['a', 1, true, null, new Date(0), { a: [1] }, ['x', 'y'], Buffer.from('z')];
    const text =
      'select $1::text, $2::int, $3::bool, $4::text, $5::timestamptz, $6::jsonb, $7::text[], $8::bytea';
    const asked = Array.from({ length: 40 }, (_, index) =>
      pool.query({ name: `q${index % 3}`, text: `${text}, ${index % 3} as n`, values }),
    );
    for (const [index, { rows }] of (await Promise.all(asked)).entries()) {
      assert.equal(rows[0].n, index % 3);
    }
    await pool.end();
  });
});

/** From psycopg, JDBC, pgx, Npgsql, Rails, Django, SQLAlchemy, Prisma, Hasura and Metabase. */
const SENT_BY_CLIENTS: readonly string[] = [
  `select n.nspname, c.relname, obj_description(c.oid, 'pg_class') from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p') and n.nspname = any (array['public'])`,
  `select info.*, format_type(att.atttypid, att.atttypmod), pg_get_expr(d.adbin, d.adrelid) from information_schema.columns info join pg_attribute att on att.attname = info.column_name left join pg_attrdef d on d.adrelid = att.attrelid and d.adnum = att.attnum where table_schema = 'public'`,
  'select * from information_schema.tables',
  'select * from information_schema.table_constraints join information_schema.key_column_usage using (constraint_name)',
  'select * from information_schema.role_table_grants',
  'select typname, typelem, rngsubtype from pg_type left join pg_range on pg_type.oid = rngtypid',
  `select a.attname, attidentity, attgenerated from pg_attribute a where a.attrelid = '"orders"'::regclass and not a.attisdropped`,
  'select pg_get_indexdef(indexrelid) from pg_index',
  'select pg_get_constraintdef(oid) from pg_constraint',
  `select has_table_privilege('orders', 'select'), has_schema_privilege('public', 'usage')`,
  `select current_setting('server_version_num'), current_setting('is_superuser'), pg_is_in_recovery()`,
  'select version(), current_schema(), current_user, current_database(), pg_backend_pid()',
  'select name, setting from pg_catalog.pg_settings',
  'select pg_size_pretty(pg_database_size(current_database()))',
  'select 1 as "delete", 2 as drop, 3 as truncate',
  `set client_min_messages to 'warning'; set standard_conforming_strings = on; set session timezone to 'UTC'`,
  `set client_encoding to 'UTF8'; set client_encoding = 'utf-8'; set names 'utf8'`,
  `set bytea_output = hex; set extra_float_digits to 3; set datestyle to 'ISO, MDY'; set intervalstyle = postgres`,
  `set session characteristics as transaction isolation level read committed`,
  `select set_config('statement_timeout', '30000', false), pg_catalog.set_config('search_path', '', false)`,
  'set search_path to default; reset all',
  'discard all',
  'begin isolation level repeatable read read only deferrable; select 1; commit',
  'set enable_seqscan = off; set plan_cache_mode = force_custom_plan; set work_mem = 65536; set jit = off',
  'prepare p (int) as select id from orders where id = $1; execute p(1); deallocate p',
  'declare c scroll cursor with hold for select id from orders; fetch 3 from c; move 2 in c; close c',
  'select row_number() over w, json_agg(o) filter (where true) over w from orders o window w as (order by id) limit 3',
  'with recursive t(n) as (values (1) union all select n + 1 from t where n < 5) select * from t',
  'select * from orders o cross join lateral (select * from customers c where c.id = o.customer_id) x limit 2',
  'select percentile_cont(0.5) within group (order by total), grouping(status) from orders group by rollup(status)',
  `select regexp_replace('a', 'a', 'b'), '{"a": 1}'::jsonb @> '{"a": 1}', to_tsvector('a') @@ 'a'::tsquery`,
  `select * from xmltable('/r' passing xml '<r><a>1</a></r>' columns a int)`,
  'explain (analyze, buffers, format json) select * from orders',
  'select * from orders order by id offset 5 rows fetch next 3 rows only',
  'select distinct on (status) status, id from orders tablesample system (50) order by status, id',
  `select $$it's$$, E'\\n', U&'\\0041', b'101', x'1f', interval '1 day', .5, 1e3, array[1, 2], row(1, 'a')`,
  'unlisten *; close all; deallocate all',
];
