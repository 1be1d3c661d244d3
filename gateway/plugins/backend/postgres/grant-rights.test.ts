import assert from 'node:assert/strict';
import { Layout } from '../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { onEachPostgres } from '../../../../test/fixtures/each-postgres.ts';
import { SECRETS, SHOP_SQL, shopGrant } from '../../../../test/fixtures/shop-database.ts';
import { type ShopGateway, startShopGateway } from '../../../../test/fixtures/shop-gateway.ts';

const ORM = shopGrant('orm', {
  select: ['public.customers', 'public.orders', 'public.tenants'],
  insert: ['public.customers', 'public.orders'],
  update: ['public.customers'],
  delete: ['public.customers'],
  columns: [{ table: 'public.orders', update: ['note'] }],
  writeMasked: ['public.customers.email'],
  execute: ['public.plus(integer, integer)'],
  sequences: ['public.invoice_no'],
  settings: { 'app.tenant': '7' },
  statements: ['read', 'write'],
});
const BUILDER = shopGrant('builder', {
  select: ['public.orders'],
  ddlOwner: { role: 'shop_builder', schemas: ['reporting'] },
  statements: ['read', 'ddl'],
});

for (const [name, layout] of [
  ['front', Layout.FRONT],
  ['in-place', Layout.IN_PLACE],
] as const) {
  onEachPostgres(`a gateway before a shop in the layout ${name}`, (server) => {
    let gateway: ShopGateway;
    before(async () => {
      await server().exec(SHOP_SQL);
      await server().exec(`create schema reporting; create sequence public.invoice_no;
        create function public.plus(integer, integer) returns integer language sql as 'select $1 + $2';
        create table public.tenants (tenant text, secret text);
        insert into public.tenants values ('7', 'ours'), ('8', 'theirs');
        alter table public.tenants enable row level security;
        create policy own on public.tenants using (tenant = current_setting('app.tenant', true))`);
      gateway = await startShopGateway(server(), [ORM, BUILDER], { layout });
    });
    after(() => gateway?.[Symbol.asyncDispose]());

    const customers = layout === Layout.IN_PLACE ? 'public.customers' : 'customers';

    it('P2 P3 reads and writes as an ORM does, and destroys nothing', async () => {
      await using session = await gateway.connect(ORM);
      const made = await session.query(
        `insert into ${customers} (name, email) values ($1, $2) returning id, email`,
        ['Mary', 'mary@example.org'],
      );
      const [{ id, email }] = made.rows;
      assert.equal(email, 'm***@example.org');
      await session.query(`update ${customers} set name = $1, email = $2 where id = $3`, [
        'Mary S.',
        email,
        id,
      ]);
      const base = layout === Layout.IN_PLACE ? 'writ_base_public' : 'public';
      const [row] = await server().exec(
        `select name, email from ${base}.customers where id = ${id}`,
      );
      assert.deepEqual(row, { name: 'Mary S.', email: 'mary@example.org' });
      await assert.rejects(
        session.query(`update ${customers} set email = $1 where id = 1`, [email]),
        { code: '42501', message: /a masked value cannot be written to column "email"/ },
      );
      await assert.rejects(
        session.query(`update ${customers} set ssn = '' where id = 1`),
        (error: Error & { code?: string }) => {
          assert.match(error.code ?? '', /^(42501|0A000|55000)$/);
          return true;
        },
      );
      await session.query(`delete from ${customers} where id = $1`, [id]);
      const { rows } = await session.query(`select * from ${customers}`);
      for (const secret of Object.values(SECRETS)) {
        assert.ok(!JSON.stringify(rows).includes(secret));
      }
    });

    it('P12 updates the column that the grant names, and no other', async () => {
      await using session = await gateway.connect(ORM);
      await session.query("update public.orders set note = 'x' where id = 1");
      await assert.rejects(session.query('update public.orders set total = 0 where id = 1'), {
        code: '42501',
      });
      assert.equal((await session.query('select plus(1, 2) as n')).rows[0].n, 3);
      await session.query("select nextval('public.invoice_no')");
      await assert.rejects(session.query("select nextval('public.orders_id_seq2')"), {
        code: '42P01',
      });
    });

    it('P8 lets no client change a setting of the grant', async () => {
      await using session = await gateway.connect(ORM);
      const seen = async () => (await session.query('select secret from tenants')).rows;
      for (const sql of [
        "set app.tenant = '8'",
        "set local app.tenant to '8'",
        "select set_config('app.tenant', '8', false)",
        "select set_config('APP.TENANT', '8', true), * from tenants",
        "select set_config('app.' || 'tenant', '8', false)",
        'set "app.tenant" = \'8\'',
        "update pg_settings set setting = '8' where name = 'app.tenant'",
        "prepare p as select set_config($1, $2, false); execute p('app.tenant', '8')",
      ]) {
        await assert.rejects(session.query(sql), { code: '42501' }, sql);
        assert.deepEqual(await seen(), [{ secret: 'ours' }], sql);
      }
      await session.query('set session app.tenant = default');
      await session.query('reset all');
      await session.query('discard all');
      assert.deepEqual(await seen(), [{ secret: 'ours' }]);
      for (const options of ['-c app.tenant=8', '--app.tenant=8']) {
        await assert.rejects(gateway.connect(ORM, { options }), { code: '42501' });
      }
    });

    it('P6 starts a session with ddl as the owner of what it creates', async () => {
      await using session = await gateway.connect(BUILDER);
      const { rows } = await session.query('select current_user as u, session_user as s');
      assert.equal(rows[0].u, 'shop_builder');
      assert.match(rows[0].s, /^writ_[0-9a-f]{16}$/);
      await session.query('select * from orders');
      await assert.rejects(session.query('select * from public.vault'), { code: '42501' });
    });

    it('P6 keeps what a session with ddl created, and lets it create nowhere else', async () => {
      {
        await using session = await gateway.connect(BUILDER);
        await session.query('create table reporting.sums (customer int, total numeric)');
        await session.query('create index on reporting.sums (customer)');
        for (const sql of ['create table public.x ()', 'drop table public.orders']) {
          await assert.rejects(session.query(sql), { code: '42501' }, sql);
        }
        await assert.rejects(session.query('grant select on reporting.sums to public'), {
          code: '42501',
        });
      }
      await using again = await gateway.connect(BUILDER);
      assert.equal((await again.query('select * from reporting.sums')).rowCount, 0);
      await again.query('drop table reporting.sums');
    });
  });
}
