import assert from 'node:assert/strict';
import type pg from 'pg';
import type { Backend, Grant } from '../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { onEachPostgres } from '../../../../test/fixtures/each-postgres.ts';
import {
  callersGrant,
  planFor,
  type ReachGateway,
  reachBackend,
  setUpEach,
  startReachGateway,
  writePasswordFile,
} from '../../../../test/fixtures/reach-gateway.ts';
import { rolesThatCanLogIn, SHOP_SQL } from '../../../../test/fixtures/shop-database.ts';

const ORDERS = callersGrant('reads-orders', { select: ['public.orders'] });
const CUSTOMERS = callersGrant('reads-customers', { select: ['public.customers'] });
const INVOICES = callersGrant('reads-invoices', {
  select: ['public.invoices', 'public.customers'],
  database: 'billing',
});
const GRANTS = [ORDERS, CUSTOMERS, INVOICES];

onEachPostgres('several databases of one backend', (server) => {
  let password: Awaited<ReturnType<typeof writePasswordFile>>;
  let gateway: ReachGateway;
  let backend: Backend;
  before(async () => {
    password = await writePasswordFile();
    await server().exec('create database shop_db');
    await server().exec('create database billing_db');
    await server().exec(SHOP_SQL, 'shop_db');
    await server().exec(
      `create table public.invoices as select 7 as id;
       create table public.customers as select 1 as id, '536-22-8726'::text as ssn`,
      'billing_db',
    );
    backend = reachBackend('shop', password.file, {
      host: server().host,
      port: server().port,
      database: 'shop_db',
      databases: { billing: 'billing_db' },
    });
    await setUpEach(server(), ['shop_db', 'billing_db'], backend, GRANTS);
    gateway = await startReachGateway();
    gateway.know([backend], GRANTS);
  });
  after(async () => {
    await gateway?.[Symbol.asyncDispose]();
    await password?.[Symbol.asyncDispose]();
  });

  /** A session's end can be seen by its client before its role is gone. */
  async function closed(): Promise<void> {
    const end = Date.now() + 20_000;
    while (gateway.sessions.some(({ disposed }) => !disposed)) {
      assert.ok(Date.now() < end, 'a session did not end');
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  const one = async (client: pg.Client, sql: string) => (await client.query(sql)).rows[0];

  it('S13: dbname leads to a database, and to a grant for that one alone', async () => {
    {
      await using billing = await gateway.connect({ database: 'billing' });
      assert.deepEqual(await one(billing, 'select current_database(), id from invoices'), {
        current_database: 'billing_db',
        id: 7,
      });
      await using shop = await gateway.connect({ user: 'reads-orders' });
      assert.deepEqual(await one(shop, 'select current_database() as name'), { name: 'shop_db' });
      await assert.rejects(shop.query('select * from invoices'), { code: '42P01' });
    }
    await closed();
  });

  it('masks in each of them by the classes of the backend', async () => {
    {
      await using billing = await gateway.connect({ database: 'billing' });
      assert.deepEqual(await one(billing, 'select ssn from customers'), { ssn: '*******8726' });
    }
    await closed();
  });

  it('S13: names the choices to who holds several grants on the database', async () => {
    await assert.rejects(gateway.connect(), {
      code: '28000',
      message:
        'you hold several grants on "shop": name one of reads-customers, reads-orders as the user',
    });
  });

  it('S13: a grant for another database of the backend is not one for this', async () => {
    await assert.rejects(gateway.connect({ user: 'reads-invoices' }), {
      code: '28000',
      message: 'you hold no grant "reads-invoices" on "shop", but reads-customers, reads-orders',
    });
    await assert.rejects(gateway.connect({ user: 'reads-orders', database: 'billing' }), {
      code: '28000',
      message: 'you hold no grant "reads-orders" on "billing", but reads-invoices',
    });
  });

  it('G12: tells of no name in the server, nor of a database without a grant', async () => {
    for (const database of ['billing_db', 'shop_db', 'template1', 'other']) {
      await assert.rejects(gateway.connect({ database }), {
        code: '28000',
        message: `spiffe://example.org/reporting holds no grant on "${database}"`,
      });
    }
    gateway.know([backend], [INVOICES]);
    await assert.rejects(gateway.connect(), {
      code: '28000',
      message: 'you hold no grant on "shop", but on billing',
    });
    gateway.know([backend], GRANTS);
  });

  it('G12: a session has rights in the database of its grant alone', async () => {
    {
      await using billing = await gateway.connect({ database: 'billing' });
      const { role } = await one(billing, 'select session_user as role');
      const rights = await server().exec(
        `select count(*)::int as n from pg_class where relnamespace = 'public'::regnamespace
           and relkind = 'r' and has_any_column_privilege('${role}', oid, 'SELECT')`,
        'shop_db',
      );
      assert.deepEqual(rights, [{ n: 0 }]);
      const sessions = (database: string) =>
        server().exec('select role from writ.session', database);
      assert.deepEqual(await sessions('billing_db'), [{ role }]);
      assert.deepEqual(await sessions('shop_db'), []);
    }
    await closed();
    assert.deepEqual(await rolesThatCanLogIn(server()), []);
  });

  it('P6: drops what a role owns in another of them, and then the role', async () => {
    {
      await using billing = await gateway.connect({ database: 'billing' });
      const { role } = await one(billing, 'select session_user as role');
      await server().exec(
        `create table public.strayed (a int); alter table public.strayed owner to ${role}`,
        'shop_db',
      );
    }
    await closed();
    const left = "select rolname from pg_roles where rolname ~ '^writ_[0-9a-f]{16}$'";
    const end = Date.now() + 20_000;
    while ((await server().exec(left)).length > 0 && Date.now() < end) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert.deepEqual(await server().exec(left), []);
    assert.deepEqual(
      await server().exec("select to_regclass('public.strayed') is null as gone", 'shop_db'),
      [{ gone: true }],
    );
  });

  it('a change in how clients find a database ends no session of another', async () => {
    await using shop = await gateway.connect({ user: 'reads-orders' });
    const changed = reachBackend('shop', password.file, {
      host: server().host,
      port: server().port,
      database: 'shop_db',
      databases: { billing: 'billing_db', archive: 'postgres' },
      serverNames: ['shop.db.internal'],
    });
    gateway.know([changed], GRANTS);
    assert.deepEqual(await one(shop, 'select 1 as a'), { a: 1 });
    gateway.know([backend], GRANTS);
    assert.deepEqual(await one(shop, 'select 1 as a'), { a: 1 });
  });

  it('P1: sets two of them up at once, and sees no drift of the one in the other', async () => {
    const plans = async (grants: readonly Grant[]) => ({
      shop: await planFor(server(), 'shop_db', backend, grants),
      billing: await planFor(server(), 'billing_db', backend, grants),
    });
    const more = callersGrant('reads-archive', { select: ['public.orders'] });
    const theirs = callersGrant('writes-reports', {
      select: ['public.invoices'],
      database: 'billing',
      statements: ['read', 'ddl'],
      ddlOwner: { role: 'billing_reports', schemas: ['reporting'] },
    });
    await server().exec('create schema reporting', 'billing_db');
    for (let round = 0; round < 5; round += 1) {
      const { shop, billing } = await plans(round % 2 === 0 ? [...GRANTS, more, theirs] : GRANTS);
      await Promise.all([
        server().exec(shop.sql, 'shop_db'),
        server().exec(billing.sql, 'billing_db'),
      ]);
    }
    for (const database of ['shop_db', 'billing_db']) {
      assert.deepEqual(await server().exec('select * from writ.drift()', database), []);
    }
  });

  it('takes one of them back without the other', async () => {
    const { undoSql } = await planFor(server(), 'billing_db', backend, GRANTS);
    await server().exec(undoSql, 'billing_db');
    await assert.rejects(gateway.connect({ database: 'billing' }), { code: '55000' });
    {
      await using shop = await gateway.connect({ user: 'reads-orders' });
      assert.deepEqual(await one(shop, 'select count(*)::int as n from orders'), { n: 2 });
    }
    await closed();
    assert.deepEqual(await server().exec('select * from writ.drift()', 'shop_db'), []);
    const shop = await planFor(server(), 'shop_db', backend, GRANTS);
    await server().exec(shop.undoSql, 'shop_db');
    assert.deepEqual(
      await server().exec("select rolname from pg_roles where rolname ~ '^writ_[a0-9]'"),
      [],
    );
  });
});
