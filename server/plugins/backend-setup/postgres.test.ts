import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { create } from '@bufbuild/protobuf';
import { ColumnsSchema } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { stateOf } from '../../../test/fixtures/database-state.ts';
import { onEachPostgres } from '../../../test/fixtures/each-postgres.ts';
import { skipWithout } from '../../../test/fixtures/programs.ts';
import {
  connectAs,
  groupRoleOf,
  LOGIN,
  LOGIN_PASSWORD,
  openSession,
  planShop,
  SHOP,
  SHOP_READER,
  SHOP_SQL,
  SHOP_WRITER,
  setUpShop,
  shopGrant,
} from '../../../test/fixtures/shop-database.ts';

const run = promisify(execFile);

onEachPostgres('postgresBackendSetup', (server) => {
  let untouched: string[];
  before(async () => {
    await server().exec(SHOP_SQL);
    untouched = await stateOf(server());
  });
  afterEach(async () => {
    const [there] = await server().exec("select to_regnamespace('writ') is not null as it");
    if (there?.it === true) await undo();
  });
  const undo = async () => server().exec((await planShop(server(), [])).undoSql);

  it('changes nothing when it is run again', async () => {
    await setUpShop(server(), [SHOP_READER, SHOP_WRITER]);
    const once = await stateOf(server());
    await setUpShop(server(), [SHOP_READER, SHOP_WRITER]);
    assert.deepEqual(await stateOf(server()), once);
    assert.ok(once.length > untouched.length);
  });

  it('runs in psql as it runs in a driver', async function () {
    if (server().clientBin === undefined) skipWithout(this, 'psql');
    const plan = await planShop(server(), [SHOP_READER, SHOP_WRITER]);
    const psql = async (sql: string) => {
      const done = run(join(server().clientBin ?? '', 'psql'), [
        '-X',
        '-q',
        '-v',
        'ON_ERROR_STOP=1',
        server().superuserUrl,
      ]);
      done.child.stdin?.end(sql);
      return done;
    };
    await psql(plan.sql);
    const once = await stateOf(server());
    await setUpShop(server(), [SHOP_READER, SHOP_WRITER]);
    await server().exec(`alter role ${LOGIN} nologin`);
    assert.deepEqual(await stateOf(server()), once);
    assert.deepEqual(await psql(plan.sql), { stdout: '', stderr: '' });
    await psql(plan.undoSql);
    assert.deepEqual(await stateOf(server()), untouched);
  });

  it('leaves nothing behind when it is undone, with sessions open', async () => {
    const { undoSql } = await setUpShop(server(), [SHOP_READER, SHOP_WRITER]);
    await using session = await connectAs(server(), { user: LOGIN, password: LOGIN_PASSWORD });
    await session.query(
      `select writ.open_session('writ_0123456789abcdef', 'SCRAM-SHA-256$4096:AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=', $1, 'infinity', 'g')`,
      [groupRoleOf(SHOP_READER)],
    );
    await server().exec(undoSql);
    assert.deepEqual(await stateOf(server()), untouched);
  });

  it('M1 takes over what an older version set up, and undoes it', async () => {
    const older = `alter table writ.grant_group drop ddl_owner, drop settings;
      drop function writ.drift(), writ.facts(); drop table writ.made, writ.known_column, writ.mask_key`;
    await setUpShop(server(), [SHOP_READER]);
    const now = await stateOf(server());
    await server().exec(older);
    await setUpShop(server(), [SHOP_READER]);
    assert.deepEqual(await stateOf(server()), now);
    await server().exec(older);
    await undo();
    assert.deepEqual(await stateOf(server()), untouched);
  });

  it('keeps on undoing what it did not make: a login that was there, rights that were revoked', async () => {
    await server().exec(
      `create role ${LOGIN} login; revoke temporary on database postgres from public`,
    );
    const before = await stateOf(server());
    await setUpShop(server(), [SHOP_READER]);
    await undo();
    assert.deepEqual(await stateOf(server()), before);
    await server().exec(`drop role ${LOGIN}; grant temporary on database postgres to public`);
    assert.deepEqual(await stateOf(server()), untouched);
  });

  it('takes back what a grant no longer gives, from live sessions too', async () => {
    await setUpShop(server(), [SHOP_READER, SHOP_WRITER]);
    await using writer = await openSession(server(), SHOP_WRITER);
    await using reader = await openSession(server(), SHOP_READER);
    await writer.query('delete from orders where id = -1');
    const smaller = shopGrant('writing', { select: ['public.orders'], statements: ['read'] });
    await setUpShop(server(), [smaller]);
    await assert.rejects(writer.query('delete from orders where id = -1'), { code: '42501' });
    await assert.rejects(writer.query('select * from customers'), { code: '42501' });
    assert.equal((await writer.query('select * from orders')).rowCount, 2);
    await assert.rejects(reader.query('select * from orders'), { code: '42501' });
    const gone = await server().exec(
      `select from pg_roles where rolname = '${groupRoleOf(SHOP_READER)}'`,
    );
    assert.deepEqual(gone, []);
    await setUpShop(server(), [smaller]);
    const state = await stateOf(server());
    assert.deepEqual(
      state.filter((fact) => fact.includes('DELETE') && fact.includes('writ_g_')),
      [],
    );
  });

  it('gives a group exactly the rights of its grant', async () => {
    await server().exec('create sequence public.other_seq');
    await setUpShop(server(), [SHOP_WRITER]);
    await using session = await openSession(server(), SHOP_WRITER);
    await session.query('insert into orders (customer_id, total) values (1, 5)');
    await session.query("update orders set note = 'x' where total = 5");
    await session.query('delete from orders where total = 5');
    for (const sql of [
      'select * from vault',
      'select * from public.customers',
      "insert into public.customers (name) values ('x')",
      "update customers set name = 'x'",
      'delete from customers',
      'truncate orders',
      'create table x ()',
      'create temp table x ()',
      'create schema x',
      'create function public.f() returns int language sql as $$ select 1 $$',
      "select setval('orders_id_seq', 1)",
      "select nextval('other_seq')",
      'alter table orders add column x int',
    ]) {
      await assert.rejects(session.query(sql), { code: '42501' }, sql);
    }
    await server().exec('drop sequence public.other_seq');
  });

  it('works for a superuser, tables and columns with odd names', async () => {
    await server().exec(`create role "we""ird '; \\ Ünï" superuser login password 'odd';
        create schema "Od""d"; create table "Od""d"."a'b\\c; --" ("x y" int, "se""cret'" text, "UPPER" serial);
        insert into "Od""d"."a'b\\c; --" values (1, 'the secret')`);
    const name = `Od"d.a'b\\c; --`;
    const columns = create(ColumnsSchema, {
      name: 'odd',
      backend: SHOP,
      tables: [{ table: name, columns: { 'se"cret\'': 'national-id' } }],
    });
    const grant = shopGrant('odd', { select: [name], statements: ['read'] });
    const plain = shopGrant('plain', {
      select: [name],
      insert: [name],
      statements: ['read', 'write'],
    });
    await using odd = await connectAs(server(), { user: `we"ird '; \\ Ünï`, password: 'odd' });
    for (const [one, classes] of [
      [grant, [columns]],
      [plain, []],
    ] as const) {
      const plan = await planShop(server(), [one], { columns: classes });
      await odd.query(plan.sql);
      await server().exec(`alter role ${LOGIN} login password '${LOGIN_PASSWORD}'`);
      await using session = await openSession(server(), one);
      const { rows } = await session.query(
        `select "se""cret'" as value, "UPPER" from "a'b\\c; --"`,
      );
      assert.equal(rows[0].value, classes.length > 0 ? '******cret' : 'the secret');
    }
    await odd.query((await planShop(server(), [])).undoSql);
    await server().exec(
      `drop schema "Od""d" cascade; drop owned by "we""ird '; \\ Ünï"; drop role "we""ird '; \\ Ünï"`,
    );
    assert.deepEqual(await stateOf(server()), untouched);
  });

  it('serves two databases of one server, and undoing one leaves the other alone', async () => {
    await server().exec('create database second');
    await server().exec(SHOP_SQL, 'second');
    const second = { database: 'second' };
    const there = shopGrant('elsewhere');
    await setUpShop(server(), [SHOP_READER]);
    await setUpShop(server(), [there], second);
    await using session = await openSession(server(), SHOP_READER);
    await using gateway = await connectAs(server(), {
      user: LOGIN,
      password: LOGIN_PASSWORD,
      database: 'second',
    });
    assert.deepEqual((await gateway.query('select * from writ.list_sessions()')).rows, []);
    const role = (await session.query('select session_user as role')).rows[0].role;
    assert.equal((await gateway.query('select writ.close_session($1) as n', [role])).rows[0].n, 0);
    await server().exec((await planShop(server(), [], second)).undoSql, 'second');
    assert.equal((await session.query('select * from customers')).rowCount, 2);
  });

  it('P13: writes no comment on a role and no meaning into its name', async () => {
    await setUpShop(server(), [SHOP_READER, SHOP_WRITER]);
    await using session = await openSession(server(), SHOP_READER);
    const { rows } = await session.query(
      "select rolname, shobj_description(oid, 'pg_authid') as comment, rolconfig from pg_roles where rolname like 'writ%'",
    );
    for (const { rolname, comment, rolconfig } of rows) {
      assert.match(rolname, /^writ_(admin|gateway|([go]_)?[0-9a-f]{16})$/);
      assert.equal(comment, null);
      assert.ok(!JSON.stringify(rolconfig).includes('example.org'));
    }
  });
});
