/** G10, G13 and G29: what the role of one session is, has and can become. */
import assert from 'node:assert/strict';
import { startupMessage } from '../../gateway/plugins/backend/postgres/wire/frontend-messages.ts';
import { onEachPostgres } from '../fixtures/each-postgres.ts';
import { cells, query } from '../fixtures/relay-world.ts';
import { until } from '../fixtures/restarts.ts';
import { groupRoleOf, SHOP_SQL, shopGrant } from '../fixtures/shop-database.ts';
import { type ShopGateway, startShopGateway } from '../fixtures/shop-gateway.ts';
import { errorOf, type WireClient } from '../fixtures/wire-client.ts';

const READER = shopGrant('roles-reader');
const CLERK = shopGrant('roles-clerk', {
  select: ['public.orders'],
  insert: ['public.orders'],
  execute: ['public.allowed(integer)'],
  statements: ['read', 'write'],
});
const UNRULED = shopGrant('roles-unruled', {
  select: ['public.customers', 'public.orders'],
  statements: ['any'],
});
const SQL = `${SHOP_SQL}
  create function public.allowed(int) returns int language sql as 'select $1 + 1';
  create function public.not_allowed(int) returns int language sql as 'select $1 + 1';
  create function public.as_owner() returns text language sql security definer
    as 'select ssn from public.customers limit 1';
  revoke execute on function public.allowed(int), public.not_allowed(int), public.as_owner() from public;
  create database elsewhere`;

/** Of the role of the one session there is. */
const ROLE = `(select oid from pg_roles where rolname ~ '^writ_[0-9a-f]{16}$')`;
/** What a session role must not have, in the database where it is asked; no row is as it should be. */
const TOO_MUCH = `
  select 'is more than a role: ' || rolname as what from pg_roles where oid = ${ROLE}
    and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls or rolcanlogin)
  union all select 'owns ' || classid::regclass from pg_shdepend where refobjid = ${ROLE} and deptype = 'o'
  union all select 'may create in ' || nspname from pg_namespace where has_schema_privilege(${ROLE}, oid, 'create')
  union all select 'may create in or use temp of ' || datname from pg_database where datallowconn
    and datname = current_database() and has_database_privilege(${ROLE}, oid, 'create, temp')
  union all select 'administers ' || roleid::regrole from pg_auth_members where member = ${ROLE} and admin_option
  union all select 'executes ' || p.oid::regprocedure from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname !~ '^(pg_|information_schema)' and has_schema_privilege(${ROLE}, n.oid, 'usage')
    and has_function_privilege(${ROLE}, p.oid, 'execute')`;
/** Grants and other traces of session roles, in every database. */
const TRACES = `
  select d.dbid::text || ' ' || d.classid::regclass || ' ' || d.deptype::text as what from pg_shdepend d
    left join pg_roles r on r.oid = d.refobjid where d.refclassid = 'pg_authid'::regclass
    and (r.rolname ~ '^writ_[0-9a-f]{16}$' or r.oid is null)
  union all select 'a setting' from pg_db_role_setting where setrole <> 0
    and setrole not in (select oid from pg_roles)
  union all select rolname from pg_roles where rolname ~ '^writ_[0-9a-f]{16}$'`;

/** Each with a value that it does not have. */
const PINNED = [
  ['standard_conforming_strings', 'off'],
  ['client_encoding', 'LATIN1'],
  ['backslash_quote', 'on'],
  ['session_authorization', 'postgres'],
  ['role', 'postgres'],
] as const;

onEachPostgres('the role of a session', (server) => {
  let gateway: ShopGateway;
  before(async () => {
    for (const sql of SQL.split(/;\s+(?=create database)/)) await server().exec(sql);
    gateway = await startShopGateway(server(), [READER, CLERK, UNRULED]);
  });
  after(() => gateway?.[Symbol.asyncDispose]());
  beforeEach(untilNoTraces);

  async function untilNoTraces(): Promise<void> {
    const none = async () => (await server().exec(TRACES)).length === 0;
    await until(none, 10_000, 'no trace of a session role').catch(async (error) => {
      assert.deepEqual(await server().exec(TRACES), [], String(error));
    });
  }

  it('G10 is one of its own, however many grants an identity uses at once', async () => {
    await using reader = await gateway.connect(READER);
    const before = await reader.query(
      'select current_user as role, count(*)::int as n from customers',
    );
    for (let round = 0; round < 5; round += 1) {
      await using clerk = await gateway.connect(CLERK);
      const { rows } = await clerk.query('select current_user as role');
      assert.notEqual(rows[0].role, before.rows[0].role);
      await assert.rejects(clerk.query('select * from customers'), { code: '42501' });
      await clerk.query('insert into orders (customer_id, total) values (1, 1)');
      await assert.rejects(reader.query('insert into orders (customer_id) values (1)'), {
        code: '42501',
      });
      const again = await reader.query(
        'select current_user as role, count(*)::int as n from customers',
      );
      assert.deepEqual(again.rows, before.rows);
    }
    const clerks = await Promise.all(Array.from({ length: 5 }, () => gateway.connect(CLERK)));
    await reader.end();
    for (const clerk of clerks) {
      assert.equal(
        (await clerk.query('select count(*) > 0 as some from orders')).rows[0].some,
        true,
      );
      await clerk.end();
    }
  });

  for (const grant of [READER, CLERK, UNRULED]) {
    it(`G13 owns nothing, creates nothing and is in its group alone, under ${grant.name}`, async () => {
      await using session = await gateway.connect(grant);
      await session.query('select 1 from orders limit 1');
      const found = (await server().exec(TOO_MUCH)).map(({ what }) => String(what));
      const allowed = grant === CLERK ? ['executes allowed(integer)'] : [];
      assert.deepEqual(
        found.filter((what) => !/^executes writ\.identity\(\)$/.test(what)),
        allowed,
      );
      const elsewhere = await server().exec(TOO_MUCH, 'elsewhere');
      const foreign = elsewhere.map(({ what }) => String(what));
      assert.deepEqual(
        foreign.filter((what) => !what.startsWith('may create in or use temp')),
        [],
      );
      const groups = await server().exec(
        `select roleid::regrole::text as name from pg_auth_members where member = ${ROLE}`,
      );
      assert.deepEqual(
        groups.map(({ name }) => name),
        [groupRoleOf(grant)],
      );
      await session.end();
      await untilNoTraces();
    });
  }

  describe('G29', () => {
    async function start(
      grant: typeof READER,
      startup: readonly (readonly [string, string])[] = [],
    ): Promise<WireClient> {
      const client = await gateway.dial(grant);
      client.send(startupMessage([['user', 'somebody'], ['database', 'shop'], ...startup]));
      return client;
    }

    /** Texts that would change it, by each way that a text has. */
    const waysTo = (name: string, value: string) => [
      `set ${name} = '${value}'`,
      `set local ${name} = '${value}'`,
      `set session ${name} to '${value}'`,
      `select set_config('${name}', '${value}', false)`,
      `with x as (select set_config('${name}', '${value}', false)) select * from x`,
      `update pg_settings set setting = '${value}' where name = '${name}'`,
      `do $$ begin perform set_config('${name}', '${value}', false); end $$`,
      `do $$ begin execute 'set ' || '${name} = ''${value}'''; end $$`,
      `create function pg_temp.f() returns int language sql set ${name} = '${value}' as 'select 1'`,
      `alter role current_user set ${name} = '${value}'`,
      `select set_config(n, '${value}', false) from (values ('${name}')) v(n)`,
    ];

    async function settingOf(client: WireClient, name: string): Promise<string | undefined> {
      client.send(query(`select current_setting('${name}')`));
      return cells(await client.until('Z'))[0];
    }

    /** It is refused, without effect, or the end of the session. */
    async function assertKept(grant: typeof READER, name: string, sql: string): Promise<void> {
      using client = await start(grant);
      await client.until('Z');
      const before = await settingOf(client, name);
      client.send(query(sql));
      const answer = await client.until('Z');
      if (answer.at(-1)?.type === 'Z') assert.equal(await settingOf(client, name), before, sql);
      else assert.match(errorOf(answer)?.message ?? '', /changed, which the grant forbids/, sql);
    }

    for (const [name, value] of PINNED) {
      const grants = name === 'backslash_quote' ? [READER] : [READER, UNRULED];
      for (const grant of grants) {
        it(`keeps ${name} as it is against every statement, under ${grant.name}`, async () => {
          for (const sql of waysTo(name, value)) await assertKept(grant, name, sql);
        }).timeout(60_000);
      }

      it(`takes no other ${name} at start-up, as a field or in options`, async () => {
        for (const startup of [
          [[name, value]],
          [['options', `-c ${name}=${value}`]],
          [['options', `--${name.replaceAll('_', '-')}=${value}`]],
        ] as const) {
          using client = await start(UNRULED, startup);
          const answer = await client.rest();
          assert.equal(errorOf(answer)?.severity, 'FATAL', JSON.stringify(startup));
        }
      });
    }

    it('reads a text as before where a grant of all classes has changed backslash_quote in a DO block', async () => {
      const text = "select E'one\\'two' as told";
      for (const [value, told] of [
        ['on', "one'two"],
        ['safe_encoding', "one'two"],
        ['off', undefined],
      ] as const) {
        using client = await start(UNRULED);
        await client.until('Z');
        client.send(
          query(`do $$ begin perform set_config('backslash_quote', '${value}', false); end $$`),
        );
        await client.until('Z');
        client.send(query(text));
        const answer = await client.until('Z');
        assert.equal(cells(answer)[0], told, value);
        if (told === undefined) assert.equal(errorOf(answer)?.sqlstate, '22P06');
      }
    });

    it('ends the session, and says why, when a pinned setting has changed all the same', async () => {
      using client = await start(UNRULED);
      await client.until('Z');
      client.send(
        query(
          `do $$ begin perform set_config('standard_conforming_strings', 'off', false); end $$`,
        ),
      );
      const answer = await client.rest();
      assert.match(errorOf(answer)?.message ?? '', /standard_conforming_strings/);
      const session = gateway.sessions.at(-1);
      await until(() => session?.disposed === true, 5000, 'the session is closed');
    });
  });
});
