import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import { ColumnsSchema } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { stateOf } from '../../../test/fixtures/database-state.ts';
import { onEachPostgres } from '../../../test/fixtures/each-postgres.ts';
import {
  connectAs,
  groupRoleOf,
  LOGIN,
  LOGIN_PASSWORD,
  planShop,
  SECRETS,
  SHOP,
  SHOP_READER,
  SHOP_SQL,
  SHOP_WRITER,
  setUpShop,
  shopColumns,
  shopGrant,
} from '../../../test/fixtures/shop-database.ts';

onEachPostgres('postgresBackendSetup: what it checks', (server) => {
  before(async () => {
    await server().exec(SHOP_SQL);
  });
  afterEach(async () => {
    const [there] = await server().exec("select to_regnamespace('writ') is not null as it");
    if (there?.it === true) await undo();
  });
  const undo = async () => server().exec((await planShop(server(), [])).undoSql);

  it('refuses a name that would end a quoted block of the plan', async () => {
    await server().exec('create table public."x$writ$; drop table vault" (a serial)');
    const grant = shopGrant('x', { insert: ['public.x$writ$; drop table vault'] });
    await assert.rejects(planShop(server(), [grant]), { code: 'FAILED_PRECONDITION' });
    await server().exec('drop table public."x$writ$; drop table vault"');
  });

  const abortsWith = async (message: RegExp, prepare: string, clean: string) => {
    const plan = await planShop(server(), [SHOP_READER, SHOP_WRITER]);
    await server().exec(prepare);
    const before = await stateOf(server());
    await assert.rejects(server().exec(plan.sql), message);
    assert.deepEqual(await stateOf(server()), before);
    await server().exec(clean);
  };

  it('aborts as a whole where sessions could read a classified column around its mask', async () => {
    await abortsWith(
      /around their mask: customers\.ssn|around their mask: public\.customers\.ssn/,
      'grant select (ssn) on public.customers to public',
      'revoke select (ssn) on public.customers from public',
    );
    await server().exec('create table public.customers_2024 () inherits (public.customers)');
    const child = shopGrant('child', { select: ['public.customers_2024'], statements: ['read'] });
    await assert.rejects(
      server().exec((await planShop(server(), [child])).sql),
      /customers_2024\.ssn/,
    );
    await server().exec('drop table public.customers_2024');
    await server().exec(
      'create view public.orders_view as select o.*, c.email as x from orders o join customers c on c.id = o.customer_id; create view public.safe as select o.id, c.name from orders o, customers c',
    );
    const through = shopGrant('view', { select: ['public.orders_view'], statements: ['read'] });
    const plan = await planShop(server(), [through]);
    await assert.rejects(
      server().exec(plan.sql),
      /would show classified columns: .*orders_view reads .*email/,
    );
    await setUpShop(server(), [
      shopGrant('view', { select: ['public.safe'], statements: ['read'] }),
    ]);
    await undo();
    await server().exec('drop view public.orders_view, public.safe');
  });

  const aborts = async (select: string, message: RegExp, columns = shopColumns) => {
    const grant = shopGrant('around', { select: [select], statements: ['read'] });
    const plan = await planShop(server(), [grant], { columns });
    await assert.rejects(server().exec(plan.sql), message, select);
    await server().exec('rollback');
  };

  it('aborts where a parent of a classified table would show its rows', async () => {
    await server().exec(`create table public.people (ssn varchar(11));
      create table public.staff (desk text) inherits (public.people);
      create table public.visits (id int, ssn text) partition by range (id);
      create table public.visits_1 partition of public.visits for values from (0) to (9);
      create view public.peek as select ssn from public.people`);
    const columns = create(ColumnsSchema, {
      name: 'children',
      backend: SHOP,
      tables: ['staff', 'visits_1'].map((name) => ({
        table: `public.${name}`,
        columns: { ssn: 'national-id' },
      })),
    });
    await aborts('public.people', /around their mask: .*people\.ssn/, [columns]);
    await aborts('public.visits', /around their mask: .*visits\.ssn/, [columns]);
    await aborts('public.peek', /peek reads .*people\.ssn/, [columns]);
    await server().exec('drop view peek; drop table public.staff, public.people, public.visits');
  });

  it('aborts where a granted view would show a whole row of a classified table', async () => {
    await server().exec(`create view public.rows_1 as select to_jsonb(c) from public.customers c;
      create view public.rows_2 as select id, c::text from public.customers c;
      create view public.rows_3 as select * from public.rows_2;
      create materialized view public.rows_4 as select row_to_json(c) from public.customers c;
      create view public.rows_5 as select to_jsonb(s.c) as j from (select c from public.customers c) s;
      create view public.counted as select count(*), max(id) from public.customers`);
    for (const view of ['rows_1', 'rows_2', 'rows_3', 'rows_4', 'rows_5']) {
      await aborts(`public.${view}`, new RegExp(`${view} reads .*customers\\.ssn`));
    }
    const counted = shopGrant('counted', { select: ['public.counted'], statements: ['read'] });
    await setUpShop(server(), [counted]);
    await undo();
    await server().exec(
      'drop view rows_1, rows_3, rows_2, rows_5, counted; drop materialized view rows_4',
    );
  });

  it('aborts where a generated column would show a classified one', async () => {
    await server().exec(
      `alter table public.customers add tax text generated always as ('PT-' || ssn) stored`,
    );
    await aborts('public.customers', /generated columns .*customers\.tax/);
    const both = create(ColumnsSchema, {
      name: 'tax',
      backend: SHOP,
      tables: [{ table: 'public.customers', columns: { tax: 'national-id' } }],
    });
    await setUpShop(server(), [SHOP_READER], { columns: [...shopColumns, both] });
    await undo();
    await server().exec('alter table public.customers drop tax');
  });

  it('waits for another run of it', async () => {
    const { sql, undoSql } = await planShop(server(), [SHOP_READER, SHOP_WRITER]);
    await Promise.all([sql, sql, sql].map((plan) => server().exec(plan)));
    const [groups] = await server().exec('select count(*)::int as count from writ.grant_group');
    assert.equal(groups?.count, 2);
    await server().exec(undoSql);
  });

  it('aborts where it would build on roles and schemas of others', async () => {
    await abortsWith(
      /belongs to someone else/,
      'create role eve; create schema writ authorization eve',
      'drop schema writ; drop role eve',
    );
    await abortsWith(
      /attributes or memberships/,
      `create role ${LOGIN} createrole`,
      `drop role ${LOGIN}`,
    );
    await abortsWith(
      /attributes or memberships/,
      `create role ${LOGIN} in role pg_monitor`,
      `drop role ${LOGIN}`,
    );
    await abortsWith(
      /in use by others/,
      `create role ${groupRoleOf(SHOP_READER)}; create role eve in role ${groupRoleOf(SHOP_READER)}`,
      `drop role ${groupRoleOf(SHOP_READER)}, eve`,
    );
    await abortsWith(
      /in use by others/,
      'create role writ_admin; create role eve in role writ_admin',
      'drop role writ_admin, eve',
    );
  });

  it('refuses to run without a superuser or in another database', async () => {
    const { sql, undoSql } = await planShop(server(), [SHOP_READER]);
    await server().exec("create role plain login password 'plain'");
    await server().exec('create database other');
    await using plain = await connectAs(server(), { user: 'plain', password: 'plain' });
    await assert.rejects(plain.query(sql), /run this as a superuser/);
    await plain.query('rollback');
    await assert.rejects(plain.query(undoSql), /run this as a superuser/);
    await assert.rejects(server().exec(sql, 'other'), /another database/);
    await server().exec('drop role plain');
  });

  it('says nothing secret and warns of what it cannot do', async () => {
    const columns = create(ColumnsSchema, {
      name: 'typos',
      backend: SHOP,
      tables: [
        {
          table: 'public.customers',
          columns: { sss: 'national-id', ssn: 'no-such-class', card: 'national-id' },
        },
        { table: 'public.nothing', columns: { a: 'email' } },
      ],
    });
    const grant = shopGrant('reporting', { select: ['public.customers', 'public.missing'] });
    const plan = await planShop(server(), [grant], { columns: [columns, ...shopColumns] });
    const warnings = plan.warnings.join('\n');
    for (const expected of [
      'classified table public.nothing does not exist',
      'classified column public.customers.sss does not exist',
      'class no-such-class of public.customers.ssn is not declared: the column is shown as NULL',
      'public.customers.card is in classes with different masks: it is shown as NULL',
      'grant reporting: table public.missing does not exist',
      'PUBLIC loses the right to temporary tables',
      `set the password of ${LOGIN}`,
    ]) {
      assert.ok(warnings.includes(expected), `${expected} in ${warnings}`);
    }
    for (const secret of [...Object.values(SECRETS), LOGIN_PASSWORD, 'SCRAM-SHA-256$4096']) {
      assert.ok(!plan.sql.includes(secret) && !plan.undoSql.includes(secret));
    }
    assert.match(plan.undoSql, /GRANT TEMPORARY ON DATABASE "postgres" TO PUBLIC/);
  });

  it('tells the administrator of tables that every session may use', async () => {
    await server().exec('grant select, insert on public.vault to public');
    const { sql } = await planShop(server(), [SHOP_READER]);
    await using owner = await connectAs(server(), server());
    const told: string[] = [];
    owner.on('notice', ({ message }) => told.push(message ?? ''));
    await owner.query(sql);
    assert.match(told.join('\n'), /PUBLIC.* has INSERT on public.vault, SELECT on public.vault/);
    await undo();
    await server().exec('revoke all on public.vault from public');
  });

  it('tells the administrator of definer functions that every session may call', async () => {
    await server().exec(
      'create function public.all_of_it() returns setof customers language sql security definer as $$ select * from customers $$',
    );
    const { sql } = await planShop(server(), [SHOP_READER]);
    await using owner = await connectAs(server(), server());
    const told: string[] = [];
    owner.on('notice', ({ message }) => told.push(message ?? ''));
    await owner.query(sql);
    assert.match(told.join('\n'), /may call (public\.)?all_of_it\(\) with the rights of its owner/);
    await server().exec('drop function public.all_of_it()');
  });
});
