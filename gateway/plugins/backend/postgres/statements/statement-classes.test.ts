import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import {
  type PostgresRights,
  PostgresRightsSchema,
} from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { SettingRules } from '../client/setting-rules.ts';
import { guardStatement } from './guard-statement.ts';
import { StatementReader } from './statement.ts';

/** Class, what it gives, and the rule that refuses that to a grant which lacks it. */
const GIVEN: readonly (readonly [string, string, string])[] = [
  ['ddl', 'create table x (a int)', 'ddl'],
  ['ddl', 'truncate t', 'ddl'],
  ['grant', 'grant select on t to x', 'grant-revoke'],
  ['grant', 'alter default privileges grant select on tables to x', 'grant-revoke'],
  ['do', 'do $$ begin end $$', 'do-block'],
  ['call', 'call p(1)', 'call'],
  ['lock', 'lock table t in share mode', 'lock-table'],
  ['maintenance', 'vacuum analyze t', 'maintenance'],
  ['listen', 'listen c', 'listen-notify'],
  ['listen', "select pg_notify('c', 'x')", 'listen-notify'],
  ['unbounded', 'delete from t', 'unbounded-write'],
];

const UNBOUNDED = [
  'update t set a = 1',
  'delete from only t as x returning *',
  'delete from t where true',
  'delete from t where 1 = 1',
  'delete from t where $1',
  'delete from t where id = id',
  'delete from t where t.id = t.id and 1 = 1',
  'delete from t where id = 1 or true',
  'with gone as (delete from t returning *) select * from gone',
  'explain analyze delete from t',
  'prepare p as update t set a = 1',
  'copy (delete from t returning *) to stdout',
  'merge into t using u on true when matched then delete',
  'select 1; delete from t',
];

const BOUNDED = [
  'update t set a = 1 where id = 1',
  'delete from t where current of c',
  'delete from t using u where t.id = u.id',
  'delete from t where id in (select id from u)',
  'delete from t where exists (select 1 from u where u.id = t.id)',
  'update t set a = 1 where id = 1 and true',
  'insert into t (a) values (1) on conflict (a) do update set a = excluded.a',
  'explain delete from t',
  'select "delete" as delete from t',
];

describe('guardStatement with classes and rules', () => {
  let reader: StatementReader;
  before(async () => {
    await StatementReader.load();
    reader = new StatementReader({ classified: new Map(), cacheBytes: 100_000 });
  });
  const settings = new SettingRules({
    settingsAllowed: ['app.locale'],
    settingCeilings: { statement_timeout: 30_000n },
  });
  const rule = (sql: string, statements: string[], rules?: PostgresRights['rules']) =>
    guardStatement(reader.read(sql), { statements, rules }, settings);
  const rules = (init: { tables?: string[]; functions?: string[]; noCopy?: boolean }) =>
    create(PostgresRightsSchema, { rules: init }).rules;

  for (const [given, sql, refusedBy] of GIVEN) {
    it(`gives "${sql}" by the class ${given} alone`, () => {
      assert.equal(rule(sql, ['read', 'write']), refusedBy);
      assert.equal(rule(sql, ['read', 'write', given]), undefined);
    });
  }

  it('takes a change that does not say which rows it means for an unbounded one', () => {
    for (const sql of UNBOUNDED) assert.equal(rule(sql, ['read', 'write']), 'unbounded-write', sql);
    for (const sql of BOUNDED) assert.equal(rule(sql, ['read', 'write']), undefined, sql);
  });

  it('gives all to a trusted tool, but who it is and what the reading of texts rests on', () => {
    for (const sql of [
      'selekt',
      'create role x',
      'delete from t',
      "load 'x'",
      'do $$ $$',
      'vacuum',
    ]) {
      assert.equal(rule(sql, ['any']), undefined, sql);
    }
    assert.equal(rule('set role x', ['any']), 'set-role');
    assert.equal(rule("set client_encoding = 'sjis'", ['any']), 'pinned-setting');
    assert.equal(rule("copy t to program 'sh'", ['any']), 'copy-program');
  });

  it('G29: sees settings in the SET clause of a function', () => {
    const made = (clause: string) =>
      `create function f() returns int language sql set ${clause} as $$ select 1 $$`;
    assert.equal(rule(made('role = x'), ['ddl', 'read']), 'set-role');
    assert.equal(rule(made("client_encoding = 'sjis'"), ['ddl']), 'pinned-setting');
    assert.equal(rule(made('search_path = pg_catalog'), ['ddl']), undefined);
    assert.equal(rule('alter function f() set role = x', ['ddl']), 'set-role');
    assert.equal(rule('alter database d set role = x', ['ddl']), 'setting-not-allowed');
    assert.equal(rule(`do $$ begin set role x; end $$`, ['ddl', 'write']), 'do-block');
  });

  it('P11 judges settings by what the backend allows, however they are written', () => {
    const made = (clause: string) =>
      `create function f() returns int language sql set ${clause} as $$ select 1 $$`;
    for (const sql of ["set app.locale = 'de'", "select set_config('App.Locale', $1, true)"]) {
      assert.equal(rule(sql, ['read']), undefined, sql);
    }
    for (const sql of ["set app.tenant = '7'", 'set local temp_file_limit = -1']) {
      assert.equal(rule(sql, ['read']), 'setting-not-allowed', sql);
    }
    for (const sql of [
      "set statement_timeout = '10s'",
      'set local statement_timeout = 1',
      'reset statement_timeout',
      'set statement_timeout to default',
      "select set_config('statement_timeout', '30s', false)",
      made("statement_timeout = '5s'"),
    ]) {
      assert.equal(rule(sql, ['read', 'ddl']), undefined, sql);
    }
    for (const sql of [
      'set statement_timeout = 0',
      'set session statement_timeout = -1',
      "set local statement_timeout = '1min'",
      "select set_config('statement_timeout', '0', false)",
      "select set_config('STATEMENT_TIMEOUT', $1, false)",
      "select 1; select set_config('statement_timeout', '31s', true)",
      made('statement_timeout = 0'),
      'alter function f() set statement_timeout = 0',
      'set work_mem = 300000',
    ]) {
      assert.equal(rule(sql, ['read', 'ddl']), 'setting-too-high', sql);
    }
    assert.equal(rule('set statement_timeout = 0', ['any']), undefined);
    assert.equal(rule('alter role current_user set statement_timeout = 0', ['ddl']), 'role-change');
  });

  it('sees forbidden functions in whatever they stand', () => {
    const hidden = "pg_read_file('/etc/passwd')";
    for (const sql of [
      `create table x as select ${hidden}`,
      `create view v as select ${hidden}`,
      `create function f() returns text begin atomic select ${hidden}; end`,
      `call p(${hidden})`,
    ]) {
      assert.equal(rule(sql, ['ddl', 'call', 'read']), 'server-file', sql);
    }
  });

  it('refuses tables, in whatever schema or spelling the rule does not tell apart', () => {
    const refused = rules({ tables: ['app.secrets', 'odd "name'] });
    for (const sql of [
      'select * from app.secrets',
      'select * from secrets',
      'select * from "app"."secrets"',
      'select (select x from SECRETS limit 1)',
      'with secrets as (select * from secrets) select * from secrets',
      'insert into t select * from app.secrets',
      'copy app.secrets to stdout',
      'select * from any_schema."odd ""name"',
      'drop table app.secrets',
      'lock table secrets',
    ]) {
      assert.equal(rule(sql, ['read', 'write', 'ddl', 'lock'], refused), 'table-refused', sql);
      assert.equal(rule(sql, ['any'], refused), 'table-refused', sql);
    }
    for (const sql of [
      'select secrets from t',
      'select * from other.secrets',
      "select 'secrets'",
    ]) {
      assert.equal(rule(sql, ['read'], refused), undefined, sql);
    }
  });

  it('refuses functions and COPY', () => {
    const refused = rules({ functions: ['pg_sleep', 'app.purge'], noCopy: true });
    assert.equal(rule('select pg_catalog.pg_sleep(9)', ['read'], refused), 'function-refused');
    assert.equal(rule('select purge()', ['read'], refused), 'function-refused');
    assert.equal(rule('call app.purge()', ['call'], refused), 'function-refused');
    assert.equal(rule('select sleep(9)', ['read'], refused), undefined);
    assert.equal(rule('copy t to stdout', ['read'], refused), 'copy-refused');
    assert.equal(rule('copy t from stdin', ['write'], refused), 'copy-refused');
  });

  it('judges by the statement, not by what a literal or a name in it says', () => {
    const reads = [
      'select 1 as delete, 2 as "drop", $$ truncate t; $$ as update',
      'select "T0"."update" as "T0_update" from "public"."T" "T0" where "T0"."grant" = $1',
      "select 'a;drop table t' /* delete from t */ -- update t set a = 1",
      'select count(*) filter (where status = $1) over (partition by "lock") from t',
    ];
    for (const sql of reads) assert.equal(rule(sql, ['read']), undefined, sql);
  });
});
