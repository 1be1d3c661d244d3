import assert from 'node:assert/strict';
import { stateOf } from '../../../test/fixtures/database-state.ts';
import { onEachPostgres } from '../../../test/fixtures/each-postgres.ts';
import type { TestPostgres } from '../../../test/fixtures/postgres.ts';
import {
  connectAs,
  openSession,
  planShop,
  rolesThatCanLogIn,
  SECRETS,
  SHOP_SQL,
  setUpShop,
  shopGrant,
} from '../../../test/fixtures/shop-database.ts';

/** What the plan tells the administrator while it runs. */
async function noticesOf(server: TestPostgres, sql: string): Promise<string> {
  await using owner = await connectAs(server, server);
  const told: string[] = [];
  owner.on('notice', ({ message }) => told.push(message ?? ''));
  await owner.query(sql);
  return told.join('\n');
}

onEachPostgres('a grant, to the column', (server) => {
  let untouched: string[];
  before(async () => {
    await server().exec(SHOP_SQL);
    await server().exec(`create schema reporting; create sequence public.invoice_no;
      create function public.plus(a integer, b numeric) returns numeric language sql as $$ select a + b $$;
      create function public.loud(text) returns text language sql as $$ select upper($1) $$;
      create procedure public.noted(integer) language sql as $$ select 1 $$;
      create function public.total() returns numeric language sql security definer set search_path = public
        as $$ select sum(total) from orders $$;
      revoke execute on all routines in schema public from public;
      create table public.tenants (tenant text, secret text);
      insert into public.tenants values ('7', 'ours'), ('8', 'theirs');
      alter table public.tenants enable row level security;
      create policy own on public.tenants using (tenant = current_setting('app.tenant', true));`);
    untouched = await stateOf(server());
  });
  afterEach(async () => {
    const [there] = await server().exec("select to_regnamespace('writ') is not null as it");
    if (there?.it === true) await server().exec((await planShop(server(), [])).undoSql);
    assert.deepEqual(await stateOf(server()), untouched);
    assert.deepEqual(await rolesThatCanLogIn(server()), []);
  });

  it('P12 gives columns to read and to update, of tables with and without a mask', async () => {
    const grant = shopGrant('columns', {
      columns: [
        { table: 'public.orders', select: ['id', 'total'], update: ['note'] },
        { table: 'public.customers', select: ['id', 'ssn'], update: ['name'], insert: ['name'] },
      ],
      statements: ['read', 'write'],
    });
    await setUpShop(server(), [grant]);
    await using session = await openSession(server(), grant);
    assert.equal((await session.query('select id, total from orders')).rowCount, 2);
    assert.equal((await session.query("update orders set note = 'x' where id = 1")).rowCount, 1);
    await session.query("update orders set note = 'first' where id = 1");
    const { rows } = await session.query('select id, ssn from customers where id = 1');
    assert.deepEqual(rows, [{ id: 1, ssn: '*******8726' }]);
    await session.query("update customers set name = 'Ada' where id = 1");
    for (const sql of [
      'select * from orders',
      'select note from orders',
      'select count(note) from orders',
      'select orders from orders',
      'update orders set total = 0',
      'update orders set note = note',
      'insert into orders (customer_id) values (1)',
      'delete from orders',
      'select name from customers',
      'select * from customers',
      'select email from customers',
      "update customers set ssn = ''",
      'delete from customers',
    ]) {
      await assert.rejects(session.query(sql), { code: /^(42501|42703|0A000|55000)$/ }, sql);
    }
  });

  it('gives functions and sequences by name, and no others', async () => {
    const grant = shopGrant('functions', {
      execute: ['public.plus(integer, numeric)', 'public.noted(int)', 'public.total()'],
      sequences: ['public.invoice_no'],
      statements: ['read', 'write'],
    });
    const { sql } = await planShop(server(), [grant]);
    assert.match(
      await noticesOf(server(), sql),
      /function total\(\)|function public\.total\(\) runs/,
    );
    await setUpShop(server(), [grant]);
    await using session = await openSession(server(), grant);
    assert.equal((await session.query('select plus(1, 2) as n')).rows[0].n, '3');
    assert.equal((await session.query('select total() as n')).rows[0].n, '29.99');
    await session.query('call noted(1)');
    await session.query("select nextval('invoice_no'), currval('public.invoice_no')");
    for (const sql of [
      "select loud('x')",
      "select setval('invoice_no', 1)",
      "select nextval('orders_id_seq')",
      'select * from orders',
    ]) {
      await assert.rejects(session.query(sql), { code: '42501' }, sql);
    }
  });

  it('says what it does not find', async () => {
    const grant = shopGrant('missing', {
      execute: ['public.none()', 'public.plus(nothing)', 'nowhere.f()'],
      sequences: ['public.orders', 'nowhere.s'],
      columns: [{ table: 'public.orders', select: ['id', 'nothing'] }],
      statements: ['read', 'write'],
    });
    const { sql, warnings } = await planShop(server(), [grant]);
    const told = await noticesOf(server(), sql);
    assert.equal(told.match(/does not exist/g)?.length, 5, told);
    assert.match(warnings.join('\n'), /column public.orders.nothing does not exist/);
  });

  it('P8 sets what row policies read, on the role of each session', async () => {
    const grants = ['7', '8'].map((tenant) =>
      shopGrant(`tenant-${tenant}`, {
        select: ['public.tenants'],
        settings: { 'app.tenant': tenant, 'app.user': `o'${tenant} \\` },
        statements: ['read'],
      }),
    );
    await setUpShop(server(), grants);
    await setUpShop(server(), grants);
    for (const [index, grant] of grants.entries()) {
      await using session = await openSession(server(), grant);
      const { rows } = await session.query(
        `select secret, current_setting('app.user') as u from tenants`,
      );
      assert.deepEqual(rows, [{ secret: ['ours', 'theirs'][index], u: `o'${7 + index} \\` }]);
      await session.query('reset all');
      await session.query('discard all');
      assert.deepEqual((await session.query('select secret from tenants')).rowCount, 1);
    }
  });

  it('P6 keeps what a session creates, under an owner with no more rights than the grant', async () => {
    const grant = shopGrant('builder', {
      select: ['public.customers', 'public.orders'],
      ddlOwner: { role: 'shop_builder', schemas: ['reporting'] },
      statements: ['read', 'ddl'],
    });
    await setUpShop(server(), [grant]);
    {
      await using session = await openSession(server(), grant);
      await session.query(
        `create table reporting.sums as select customer_id, sum(total) from orders group by 1`,
      );
      await session.query(`create function reporting.peek() returns setof text language sql security definer
        as $$ select ssn from customers $$`);
      for (const sql of [
        'create table public.x ()',
        'create schema x',
        'create table writ.x ()',
        'alter table public.orders add x int',
        'drop table public.orders',
        'select * from public.customers',
        'select * from public.vault',
        'create view reporting.v as select * from public.customers; select * from reporting.v',
        'grant select on public.orders to public',
        'alter role shop_builder login',
        `alter function reporting.peek() owner to postgres`,
      ]) {
        await assert.rejects(session.query(sql), { code: /^(42501|0LP01)$/ }, sql);
      }
      await session.query('reset role');
      await session.query('discard all');
      await session.query('create table reporting.more (); drop table reporting.more');
      await session.query('set role none');
      // Before 16 a member inherits; what the session's own role owns goes with it.
      await session.query('create table reporting.y ()').catch(() => undefined);
    }
    await setUpShop(server(), [grant]);
    await using again = await openSession(server(), grant);
    assert.equal((await again.query('select * from reporting.sums')).rowCount, 2);
    const { rows } = await again.query('select reporting.peek() as seen');
    assert.ok(!JSON.stringify(rows).includes(SECRETS.ssn));
    const [callable] = await server().exec(
      "select has_function_privilege('public', 'reporting.peek()', 'execute') as it",
    );
    assert.equal(callable?.it, false);
    const [gone] = await server().exec("select to_regclass('reporting.y') is null as it");
    assert.equal(gone?.it, true);
    const [owner] = await server().exec(
      `select relowner::regrole::text as owner from pg_class where oid = 'reporting.sums'::regclass`,
    );
    assert.equal(owner?.owner, 'shop_builder');
    await again.query('drop table reporting.sums; drop function reporting.peek()');
  });

  it('P6 aborts where the owner is or has more than the grant', async () => {
    const grant = shopGrant('builder', {
      select: ['public.orders'],
      ddlOwner: { role: 'shop_builder', schemas: ['reporting'] },
      statements: ['read', 'ddl'],
    });
    for (const [more, expected] of [
      ['create role shop_builder login', /its attributes/],
      ['create role shop_builder in role pg_read_all_data', /membership in pg_read_all_data/],
      [
        'create role shop_builder; grant select on public.vault to shop_builder',
        /rights on (public\.)?vault/,
      ],
      [
        'create role shop_builder; grant select (id) on public.vault to shop_builder',
        /rights on columns/,
      ],
      [
        'create role shop_builder; create table public.own (); alter table public.own owner to shop_builder',
        /owning (public\.)?own/,
      ],
      [
        'create role shop_builder; grant create on schema public to shop_builder',
        /rights on schema public/,
      ],
      ['create role shop_builder; create role eve in role shop_builder', /its member eve/],
    ] as const) {
      await server().exec(more);
      const { sql } = await planShop(server(), [grant]);
      await assert.rejects(server().exec(sql), { message: expected }, more);
      await server().exec(
        'drop owned by shop_builder; drop role shop_builder; drop role if exists eve',
      );
    }
  });

  it('P6 warns of ddl among the tables of others', async () => {
    const grant = (schema: string) =>
      shopGrant('builder', {
        ddlOwner: { role: 'shop_builder', schemas: [schema] },
        statements: ['ddl'],
      });
    const warningsOf = async (schema: string) =>
      (await planShop(server(), [grant(schema)])).warnings.join('\n');
    assert.match(await warningsOf('public'), /ddl in schema public, which holds tables of others/);
    assert.doesNotMatch(await warningsOf('reporting'), /ddl in schema/);
  });

  it('P6 takes the owner from live sessions when the grant loses ddl, and keeps its tables', async () => {
    const rights = { select: ['public.orders'], statements: ['read', 'ddl'] };
    const grant = shopGrant('builder', {
      ...rights,
      ddlOwner: { role: 'shop_builder', schemas: ['reporting'] },
    });
    await setUpShop(server(), [grant]);
    {
      await using session = await openSession(server(), grant);
      await session.query('create table reporting.kept (a int)');
      await setUpShop(server(), [shopGrant('builder', rights)]);
      await session.query('set role none');
      await assert.rejects(session.query('set role shop_builder'), { code: '42501' });
      await assert.rejects(session.query('select * from reporting.kept'), { code: '42501' });
    }
    await server().exec('drop table reporting.kept');
    await server().exec('drop role shop_builder');
  });

  it('P7 warns of a granted view that leaves out rows without a barrier', async () => {
    await server().exec(`create view public.cheap as select * from public.orders where total < 10;
      create view public.guarded with (security_barrier) as select * from public.orders where total < 10;
      create view public.whole as select id, total from public.orders`);
    const grant = shopGrant('views', {
      select: ['public.cheap', 'public.guarded', 'public.whole'],
      statements: ['read'],
    });
    const told = await noticesOf(server(), (await planShop(server(), [grant])).sql);
    assert.match(told, /view (public\.)?cheap leaves out rows/);
    assert.doesNotMatch(told, /guarded|whole/);
    await server().exec((await planShop(server(), [])).undoSql);
    await server().exec('drop view cheap, guarded, whole');
  });
});
