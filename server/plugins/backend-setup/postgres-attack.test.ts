import assert from 'node:assert/strict';
import type pg from 'pg';
import { scramVerifier } from '../../../runtime/scram-verifier.ts';
import { onEachPostgres } from '../../../test/fixtures/each-postgres.ts';
import {
  connectAs,
  groupRoleOf,
  LOGIN,
  LOGIN_PASSWORD,
  openSession,
  rolesThatCanLogIn,
  SECRETS,
  SHOP_READER,
  SHOP_SQL,
  setUpShop,
} from '../../../test/fixtures/shop-database.ts';

const GROUP = groupRoleOf(SHOP_READER);
const OWNER = GROUP.replace('_g_', '_o_');
const ROLE = 'writ_0123456789abcdef';
const LEASE = "now() + interval '1 minute'";

/** Everything about roles and rights that an attacker could want to change. */
const RIGHTS_SQL = `
  select json_agg(x order by x::text) as rights from (
    select to_jsonb(a) - 'oid' as x from pg_authid a
    union all select jsonb_build_object('member', m.member::regrole, 'role', m.roleid::regrole, 'admin', m.admin_option) from pg_auth_members m
    union all select jsonb_build_object('setting', s.setconfig, 'role', s.setrole::regrole) from pg_db_role_setting s
    union all select jsonb_build_object('class', c.oid::regclass, 'acl', c.relacl, 'owner', c.relowner::regrole) from pg_class c where c.relnamespace >= 16384 or c.relname in ('customers', 'orders', 'vault')
    union all select jsonb_build_object('function', p.oid::regprocedure, 'acl', p.proacl, 'source', p.prosrc) from pg_proc p where p.oid >= 16384
    union all select jsonb_build_object('schema', n.nspname, 'acl', n.nspacl) from pg_namespace n where n.nspname !~ '^pg_(toast_)?temp'
    union all select jsonb_build_object('database', d.datname, 'acl', d.datacl) from pg_database d
  ) all_rights`;

onEachPostgres('P1: a stolen gateway credential', (server) => {
  let thief: pg.Client & AsyncDisposable;
  before(async () => {
    await server().exec(SHOP_SQL);
    await server().exec("create role other login password 'other'; create role boss superuser");
    await setUpShop(server(), [SHOP_READER]);
    thief = await connectAs(server(), { user: LOGIN, password: LOGIN_PASSWORD });
  });
  after(async () => thief?.[Symbol.asyncDispose]());

  const rights = async () => JSON.stringify(await server().exec(RIGHTS_SQL));

  const mustFail = async (statements: readonly string[]) => {
    const before = await rights();
    for (const sql of statements) {
      await assert.rejects(
        thief.query(sql),
        (error: pg.DatabaseError) => {
          assert.match(
            error.code ?? '',
            /^(42501|42704|0A000|22\d{3}|2B\w{3})$/,
            `${sql}: ${error.message}`,
          );
          return true;
        },
        sql,
      );
    }
    assert.equal(await rights(), before);
    assert.deepEqual(await rolesThatCanLogIn(server()), []);
  };

  it('runs no command of the operating system and reads no file', async () => {
    await mustFail([
      "copy (select 1) to program 'id > /tmp/pwned'",
      'create temp table x (a text)',
      "copy pg_catalog.pg_class to '/tmp/x'",
      "select pg_read_file('/etc/passwd')",
      "select lo_import('/etc/passwd')",
      'grant pg_execute_server_program to writ_gateway',
      "create function f() returns int language c as '/lib/x86_64-linux-gnu/libc.so.6', 'system'",
      'create extension adminpack',
      "alter system set archive_command = 'id'",
    ]);
  });

  it('makes, changes and becomes no role', async () => {
    await mustFail([
      'create role x login',
      'create role x in role writ_admin',
      'alter role postgres password null',
      "alter role other password 'x'",
      'alter role writ_admin login',
      `alter role ${GROUP} login`,
      'drop role other',
      `grant ${GROUP} to ${LOGIN}`,
      `grant ${GROUP} to other`,
      'grant writ_admin to writ_gateway',
      'grant writ_gateway to other with admin option',
      'grant pg_signal_backend to writ_gateway',
      'alter role writ_gateway createrole',
      'set role writ_admin',
      `set role ${GROUP}`,
      `set role ${OWNER}`,
      'set session authorization postgres',
    ]);
  });

  it('reads no table, neither of the database nor of Writ, and creates nothing', async () => {
    await mustFail([
      'select * from public.customers',
      'select * from public.orders',
      `select * from ${GROUP.replace('_g_', '_v_')}.customers`,
      'select * from pg_authid',
      'select * from writ.session',
      'select * from writ.grant_group',
      'select * from writ.mask_key',
      'select * from writ.made',
      'select * from writ.known_column',
      'select * from writ.drift()',
      'select * from writ.facts()',
      'insert into writ.grant_group select rolname, rolname, rolname from pg_roles',
      'update writ.session set group_name = $$x$$',
      'delete from writ.changed',
      'create table writ.x ()',
      'create table public.x ()',
      'create schema x',
      'create function writ.f() returns int language sql as $$ select 1 $$',
      'create or replace function writ.identity() returns text language sql as $$ select 1 $$',
      'alter function writ.open_session(name, text, name, timestamptz, text) security invoker',
      'drop function writ.identity()',
      'select writ.identity(), pg_terminate_backend(1) from pg_authid',
    ]);
  });

  it('opens sessions of no group that the administrator did not list', async () => {
    const verifier = scramVerifier('x');
    const groups = [
      'pg_execute_server_program',
      'pg_read_server_files',
      'postgres',
      'boss',
      'other',
      'writ_admin',
      OWNER,
      LOGIN,
      '',
      `${GROUP}" superuser in role "${GROUP}`,
    ];
    await mustFail(
      groups.map(
        (group) => `select writ.open_session('${ROLE}', '${verifier}', '${group}', ${LEASE}, 'g')`,
      ),
    );
    await mustFail(
      [
        `select writ.open_session('${ROLE}', '${verifier}', null, ${LEASE}, 'g')`,
        `select writ.open_session(null, '${verifier}', '${GROUP}', ${LEASE}, 'g')`,
        `select writ.open_session('${ROLE}', null, '${GROUP}', ${LEASE}, 'g')`,
      ].map((sql) => sql),
    );
  });

  it('makes roles of no other name and with no other password', async () => {
    const verifier = scramVerifier('x');
    const names = [
      'postgres',
      'x',
      'writ_admin',
      GROUP,
      OWNER,
      'writ_0123456789ABCDEF',
      'writ_0123456789abcde',
      'writ_0123456789abcdef0',
      'writ_0123456789abcdef superuser',
      'writ_0123456789abcdef"x',
      ' writ_0123456789abcdef',
    ];
    await mustFail(
      names.map(
        (name) => `select writ.open_session('${name}', '${verifier}', '${GROUP}', ${LEASE}, 'g')`,
      ),
    );
    const verifiers = [
      '',
      'secret',
      'md5e8a48653851e28c69d0506508fb27fc5',
      `${verifier} `,
      `${verifier}'' superuser`,
      verifier.replace('$1:', '$2:'),
      `SCRAM-SHA-256$1:x`,
    ];
    await mustFail(
      verifiers.map(
        (text) => `select writ.open_session('${ROLE}', '${text}', '${GROUP}', ${LEASE}, 'g')`,
      ),
    );
    await mustFail([
      `select writ.open_session('${ROLE}', '${verifier}', '${GROUP}', ${LEASE}, '')`,
      `select writ.open_session('${ROLE}', '${verifier}', '${GROUP}', ${LEASE}, repeat('g', 3000))`,
    ]);
  });

  it('seals and closes session roles alone', async () => {
    await mustFail(
      ['postgres', 'other', 'writ_admin', LOGIN, GROUP, OWNER].flatMap((name) => [
        `select writ.seal_session('${name}')`,
        `select writ.close_session('${name}')`,
      ]),
    );
    await mustFail([`select writ.seal_session('${ROLE}')`, 'select writ.close_session(null)']);
    const before = await rights();
    await server().exec(`create role ${ROLE}`);
    // A role of that name that Writ did not make, or made in another database, is not its own.
    const { rows } = await thief.query(`select writ.close_session('${ROLE}') as ended`);
    assert.equal(rows[0].ended, 0);
    await server().exec(`drop role ${ROLE}`);
    assert.equal(await rights(), before);
  });

  it('gains nothing by settings and objects of its own when it calls the functions', async () => {
    const verifier = scramVerifier('x');
    await using other = await connectAs(server(), { user: LOGIN, password: LOGIN_PASSWORD });
    await other.query(
      `set search_path = pg_temp, public; set standard_conforming_strings = off; set client_encoding = 'sjis'; set datestyle = 'sql, dmy'; set timezone = 'Asia/Tokyo'`,
    );
    await other.query(
      `select writ.open_session('${ROLE}', '${verifier}', '${GROUP}', 'infinity', 'g')`,
    );
    const [row] = await server().exec(
      `select rolsuper or rolcreaterole or rolcreatedb or rolbypassrls or rolreplication as strong, rolconnlimit,
           rolvaliduntil between now() and now() + interval '61 seconds' as soon,
           (select lease_until < now() + interval '61 minutes' from writ.session) as bounded,
           (select array_agg(roleid::regrole::text) from pg_auth_members where member = r.oid) as groups
         from pg_roles r where rolname = '${ROLE}'`,
    );
    assert.deepEqual(row, {
      strong: false,
      rolconnlimit: 1,
      soon: true,
      bounded: true,
      groups: [GROUP],
    });
    await other.query(`select writ.close_session('${ROLE}')`);
  });

  it('reads at most what the listed groups see, masked', async () => {
    await using session = await openSession(server(), SHOP_READER);
    const { rows } = await session.query('select * from customers, orders');
    assert.equal(rows.length, 4);
    for (const secret of Object.values(SECRETS)) assert.ok(!JSON.stringify(rows).includes(secret));
    await assert.rejects(session.query('select * from public.customers'), { code: '42501' });
    await assert.rejects(session.query('select * from vault'), { code: '42501' });
    await assert.rejects(session.query('select * from writ.denied'), { code: '42501' });
    await assert.rejects(session.query(`select writ.close_session('${ROLE}')`), {
      code: '42501',
    });
  });
});
