import assert from 'node:assert/strict';
import { SettingRules } from '../client/setting-rules.ts';
import { guardStatement } from './guard-statement.ts';
import { StatementReader } from './statement.ts';

const READ = { statements: ['read'], rules: undefined };
const WRITE = { statements: ['read', 'write'], rules: undefined };

/** What psql, pg, psycopg, JDBC, Django, Rails, Npgsql, pgx and pgbench send to a reader. */
const READS = [
  'select 1',
  'SELECT c.oid::regclass FROM pg_catalog.pg_class c WHERE c.relname OPERATOR(pg_catalog.~) \'^(t)$\' COLLATE pg_catalog."default"',
  'SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) FROM pg_catalog.pg_attrdef d',
  'values (1), (2)',
  'table public.orders',
  'select "delete" as delete, \'drop table t\' from t -- alter role x',
  'with recursive t(n) as (values (1) union all select n + 1 from t where n < 9) select sum(n) from t',
  'explain select * from t',
  'explain (analyze, buffers) select * from t',
  'explain (format json) update t set a = 1',
  'show all',
  'show transaction isolation level',
  'show standard_conforming_strings',
  'begin',
  'start transaction isolation level serializable read only deferrable',
  'commit and chain',
  'rollback',
  'savepoint a',
  'release savepoint a',
  'rollback to savepoint a',
  'end',
  'set extra_float_digits = 3',
  "set application_name to 'app'",
  "set session timezone to 'UTC'",
  "set time zone interval '-08:00' hour to minute",
  'set datestyle = iso, mdy',
  "set client_encoding to 'UTF8'",
  "set names 'utf-8'",
  'set standard_conforming_strings = on',
  'set backslash_quote = safe_encoding',
  'set search_path to app, public',
  'set statement_timeout = 0',
  "set local lock_timeout = '3s'",
  'set client_min_messages to warning',
  'set enable_seqscan = off',
  "set work_mem = '64MB'",
  'set role none',
  'set session authorization default',
  'set transaction isolation level repeatable read, read only',
  'set session characteristics as transaction read only',
  'set constraints all deferred',
  'reset all',
  'reset role',
  'reset client_encoding',
  'discard all',
  'discard plans',
  'deallocate all',
  'unlisten *',
  "select set_config('TimeZone', 'UTC', false)",
  "select set_config('TimeZone', $1, false)",
  "select pg_catalog.set_config('search_path', '', false)",
  'declare c cursor with hold for select * from t',
  'fetch forward 10 from c',
  'move all in c',
  'close c',
  'prepare p (int) as select * from t where id = $1',
  'execute p(1)',
  'deallocate p',
  'copy (select * from t) to stdout with (format csv, header)',
  'copy public.orders (id) to stdout (format binary)',
  'select version(); select current_setting($$server_version$$)',
  'begin; select 1; commit',
  '',
  ' \n',
  ';',
  '-- ping',
  '/* nothing */ ;;',
];

const WRITES = [
  'insert into t (a) values (1) returning id',
  'update t set a = 1 where id = 2',
  'delete from t using u where t.id = u.id',
  'merge into t using u on t.id = u.id when matched then delete',
  'with gone as (delete from t where id = 1 returning *) select * from gone',
  'with n as (select 1) insert into t select * from n',
  'select * from t for update',
  'select * from (select * from t for share) x',
  'declare c cursor for select * from t for update',
  'prepare p as delete from t where id = 1',
  'explain analyze delete from t where id = 1',
  'explain (analyze off) delete from t where id = 1',
  'copy t from stdin',
  'copy (delete from t where id = 1 returning *) to stdout',
  "select nextval('t_id_seq')",
  'select pg_advisory_lock(1)',
  'select 1; delete from t where id = 1',
  // With standard_conforming_strings pinned, the string ends at its second quote.
  "select 'a\\'; delete from t where id = 1; --'",
];

const NEVER: readonly (readonly [string, string])[] = [
  ['create table x (a int)', 'ddl'],
  ['create temp table x as select 1', 'ddl'],
  ['select * into x from t', 'ddl'],
  ['select 1 union select 2 into x', 'ddl'],
  ['with a as (select 1) select * into x from a', 'ddl'],
  ['explain create table x as select 1', 'ddl'],
  ['drop table t', 'ddl'],
  ['alter table t add column b int', 'ddl'],
  ['truncate t', 'ddl'],
  ['create function f() returns int language sql as $$ select 1 $$', 'ddl'],
  ['create rule r as on insert to t do also delete from t', 'ddl'],
  ['create extension dblink', 'ddl'],
  ['refresh materialized view v', 'ddl'],
  ["comment on table t is 'x'", 'ddl'],
  ['select 1; drop table t', 'ddl'],
  ['do $$ begin delete from t; end $$', 'do-block'],
  ['call p()', 'call'],
  ["copy t to program 'sh'", 'copy-program'],
  ["copy t from program 'sh'", 'copy-program'],
  ["copy t to '/tmp/x'", 'server-file'],
  ["copy t from '/etc/passwd'", 'server-file'],
  ["load 'x'", 'server-file'],
  ["select pg_read_file('/etc/passwd')", 'server-file'],
  ["select * from pg_ls_dir('/')", 'server-file'],
  ['listen c', 'listen-notify'],
  ["notify c, 'x'", 'listen-notify'],
  ["select pg_notify('c', 'x')", 'listen-notify'],
  ['lock table t', 'lock-table'],
  ['grant select on t to public', 'grant-revoke'],
  ['revoke all on t from x', 'grant-revoke'],
  ['grant a to b', 'grant-revoke'],
  ['alter default privileges grant select on tables to public', 'grant-revoke'],
  ["alter role current_user password 'x'", 'role-change'],
  ["alter user x with password 'x'", 'role-change'],
  ['alter role x set search_path = y', 'role-change'],
  ['create role x', 'role-change'],
  ['reassign owned by x to y', 'role-change'],
  ['alter table t owner to x', 'ddl'],
  ['set role writ_g_0123456789abcdef', 'set-role'],
  ['set local role x', 'set-role'],
  ['set session authorization x', 'set-role'],
  ["set session_authorization = 'x'", 'set-role'],
  ["select set_config('role', 'x', false)", 'set-role'],
  ["select set_config('RO' || 'LE', 'x', false)", 'pinned-setting'],
  ['select set_config($1, $2, false)', 'pinned-setting'],
  ['select set_config(name, setting, false) from pg_settings', 'pinned-setting'],
  [
    "select set_config(setting_name => 'role', new_value => 'x', is_local => false)",
    'pinned-setting',
  ],
  ["update pg_settings set setting = 'x' where name = 'role'", 'pinned-setting'],
  ["update pg_catalog.pg_settings set setting = 'x'", 'pinned-setting'],
  ["set client_encoding to 'sjis'", 'pinned-setting'],
  ["set names 'gbk'", 'pinned-setting'],
  ['set standard_conforming_strings = off', 'pinned-setting'],
  ["select set_config('standard_conforming_strings', 'off', false)", 'pinned-setting'],
  ["select set_config('standard_conforming_strings', $1, false)", 'pinned-setting'],
  ['set backslash_quote = on', 'pinned-setting'],
  ["set app.tenant = '7'", 'setting-not-allowed'],
  ["select set_config('app.tenant', '7', true)", 'setting-not-allowed'],
  ['set session_replication_role = replica', 'setting-not-allowed'],
  ["set transaction snapshot '1-1'", 'setting-not-allowed'],
  ["set work_mem = '2GB'", 'setting-too-high'],
  ['set work_mem = 1000000', 'setting-too-high'],
  ["select set_config('work_mem', $1, false)", 'setting-too-high'],
  ['select lo_create(0)', 'large-object'],
  ["select lo_import('/etc/passwd')", 'large-object'],
  ['select lo_get(16400)', 'large-object'],
  ["select query_to_xml('delete from t', true, true, '')", 'sql-in-function'],
  ["select * from dblink('', 'select 1') as x(a int)", 'sql-in-function'],
  ["select ts_stat('select set_config(''role'', ''x'', false)')", 'sql-in-function'],
  ["select ts_rewrite('a'::tsquery, 'select 1')", 'sql-in-function'],
  ["prepare transaction 'x'", 'prepared-transaction'],
  ["commit prepared 'x'", 'prepared-transaction'],
  ['vacuum', 'maintenance'],
  ['reindex table t', 'maintenance'],
  ['checkpoint', 'maintenance'],
  ["alter system set archive_command = 'sh'", 'maintenance'],
  ['selekt 1', 'unreadable-statement'],
  ["select 'a", 'unreadable-statement'],
  ['select 1\0; drop table t', 'unreadable-statement'],
  [`select ${'1 + '.repeat(20_000)}1`, 'unreadable-statement'],
  [`select '${'x'.repeat(1_100_000)}'`, 'statement-too-long'],
  [`select ${'('.repeat(20_000)}1${')'.repeat(20_000)}`, 'unreadable-statement'],
];

describe('guardStatement', () => {
  let reader: StatementReader;
  before(async () => {
    await StatementReader.load();
    reader = new StatementReader({ classified: new Map(), cacheBytes: 100_000 });
  });
  const rule = (sql: string, rights: Parameters<typeof guardStatement>[1]) =>
    guardStatement(reader.read(sql), rights, new SettingRules());

  it('lets a reader do what clients and drivers do', () => {
    const refused = READS.filter((sql) => rule(sql, READ) !== undefined);
    assert.deepEqual(refused, []);
  });

  it('refuses every kind of write to a reader and lets a writer do it', () => {
    for (const sql of WRITES) {
      assert.equal(rule(sql, READ), 'write-not-granted', sql);
      assert.equal(rule(sql, WRITE), undefined, sql);
    }
  });

  it('names the rule that refuses what no grant gives', () => {
    for (const [sql, expected] of NEVER) assert.equal(rule(sql, WRITE), expected, sql.slice(0, 80));
  });

  it('lets a grant without statement classes do nothing but end its transaction', () => {
    assert.equal(rule('select 1', { statements: [], rules: undefined }), 'read-not-granted');
    assert.equal(rule('rollback', { statements: [], rules: undefined }), undefined);
  });

  it('reads on after texts that exhaust the parser', () => {
    rule(`select ${'1+'.repeat(20_000)}1`, READ);
    assert.equal(rule('select * from orders where id = 7', READ), undefined);
  });
});
