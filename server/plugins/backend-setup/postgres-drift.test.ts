import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import { ColumnsSchema } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { onEachPostgres } from '../../../test/fixtures/each-postgres.ts';
import {
  groupRoleOf,
  OPEN,
  openSession,
  planShop,
  SHOP,
  SHOP_READER,
  SHOP_SQL,
  SHOP_WRITER,
  setUpShop,
  shopColumns,
  shopGrant,
  viewSchemaOf,
} from '../../../test/fixtures/shop-database.ts';

onEachPostgres('a column that is new or has a new type', (server) => {
  before(async () => {
    await server().exec(SHOP_SQL);
  });
  afterEach(async () => {
    await server().exec((await planShop(server(), [])).undoSql);
  });

  const columnsOf = (table: string, columns: Record<string, string>) =>
    create(ColumnsSchema, { name: 'more', backend: SHOP, tables: [{ table, columns }] });

  it('is hidden, in tables with and without a mask, until it is classified', async () => {
    await setUpShop(server(), [SHOP_WRITER]);
    await server().exec(`alter table public.customers add phone text default '555-0100';
      alter table public.orders add secret text default 'hidden'`);
    const isHidden = async () => {
      await using session = await openSession(server(), SHOP_WRITER);
      const { fields } = await session.query('select * from customers');
      assert.ok(!fields.some(({ name }) => name === 'phone'));
      for (const sql of [
        'select phone from customers',
        'select secret from orders',
        'select * from orders',
        "update orders set secret = ''",
        "insert into customers (name, phone) values ('x', '')",
      ]) {
        await assert.rejects(session.query(sql), { code: /^(42501|42703)$/ }, sql);
      }
    };
    await isHidden();
    const { warnings } = await setUpShop(server(), [SHOP_WRITER]);
    for (const name of ['public.customers.phone', 'public.orders.secret']) {
      assert.ok(
        warnings.includes(`${name} is new or has a new type: it is hidden until it is classified`),
        warnings.join('\n'),
      );
    }
    await isHidden();
    const classified = [
      ...shopColumns,
      columnsOf('public.customers', { phone: 'national-id' }),
      columnsOf('public.orders', { secret: 'open' }),
    ];
    await setUpShop(server(), [SHOP_WRITER], { columns: classified, classes: [OPEN] });
    await using session = await openSession(server(), SHOP_WRITER);
    assert.equal(
      (await session.query('select phone from customers limit 1')).rows[0].phone,
      '****0100',
    );
    assert.equal((await session.query('select * from orders')).rows[0].secret, 'hidden');
    const again = await setUpShop(server(), [SHOP_WRITER], {
      columns: classified,
      classes: [OPEN],
    });
    assert.doesNotMatch(again.warnings.join('\n'), /is new/);
  });

  it('is hidden when its type changes, and shown to a grant that names it', async () => {
    await server().exec('create table public.typed (id int, code int)');
    const whole = shopGrant('whole', { select: ['public.typed'], statements: ['read'] });
    const exact = shopGrant('exact', {
      columns: [{ table: 'public.typed', select: ['code'] }],
      statements: ['read'],
    });
    await setUpShop(server(), [whole, exact]);
    await server().exec(`drop owned by ${groupRoleOf(whole)}`);
    await server().exec('alter table public.typed alter code type text');
    await setUpShop(server(), [whole, exact]);
    {
      await using session = await openSession(server(), whole);
      await session.query('select id from typed');
      await assert.rejects(session.query('select code from typed'), { code: '42501' });
      await using other = await openSession(server(), exact);
      await other.query('select code from typed');
    }
    await server().exec('drop table public.typed');
  });
});

onEachPostgres('writ.drift()', (server) => {
  before(async () => {
    await server().exec(SHOP_SQL);
  });
  beforeEach(async () => {
    await setUpShop(server(), [SHOP_READER, SHOP_WRITER]);
  });
  const drift = async () => server().exec('select kind, what from writ.drift() order by 1, 2');
  const GROUP = groupRoleOf(SHOP_READER);
  const VIEW = `${viewSchemaOf(SHOP_READER)}.customers`;

  it('is empty after a setup, and while sessions come and go', async () => {
    assert.deepEqual(await drift(), []);
    await using session = await openSession(server(), SHOP_READER);
    await session.query('select 1');
    assert.deepEqual(await drift(), []);
  });

  const cases: readonly [sql: string, kind: string, what: RegExp, undo: string][] = [
    [
      `grant select on public.vault to ${GROUP}`,
      'added',
      new RegExp(`SELECT of ${GROUP} on public.vault`),
      `revoke select on public.vault from ${GROUP}`,
    ],
    [
      `grant select (ssn) on public.customers to ${GROUP}`,
      'added',
      new RegExp(`SELECT of ${GROUP} on public.customers.ssn`),
      `revoke select (ssn) on public.customers from ${GROUP}`,
    ],
    [
      'grant select on public.orders to public',
      'added',
      /SELECT of PUBLIC on public.orders/,
      'revoke select on public.orders from public',
    ],
    [
      `revoke select on ${VIEW} from ${GROUP}`,
      'missing',
      new RegExp(`SELECT of ${GROUP} on ${VIEW}`),
      `grant select on ${VIEW} to ${GROUP}`,
    ],
    [
      `grant pg_read_all_data to ${GROUP}`,
      'added',
      new RegExp(`member ${GROUP} of pg_read_all_data`),
      `revoke pg_read_all_data from ${GROUP}`,
    ],
    [
      'alter role writ_admin superuser',
      'added',
      /role writ_admin: \(t,/,
      'alter role writ_admin nosuperuser',
    ],
    [
      'alter table public.orders add extra text',
      'new-column',
      /^public.orders.extra$/,
      'alter table public.orders drop extra',
    ],
    [
      `alter function writ.identity() security invoker`,
      'added',
      /function writ.identity\(\) of writ_admin/,
      'alter function writ.identity() security definer',
    ],
  ];
  for (const [sql, kind, what, undo] of cases) {
    it(`tells of: ${sql.replaceAll(/writ_[gv]_[0-9a-f]+/g, 'GRANT')}`, async () => {
      await server().exec(sql);
      const rows = await drift();
      assert.ok(
        rows.some((row) => row.kind === kind && what.test(String(row.what))),
        JSON.stringify(rows),
      );
      await server().exec(undo);
      assert.deepEqual(await drift(), []);
    });
  }

  it('tells of a view that was replaced', async () => {
    const [before] = await server().exec(`select pg_get_viewdef('${VIEW}'::regclass) as text`);
    const wider = String(before?.text).replace(';', ' where t.id > 0');
    await server().exec(`create or replace view ${VIEW} as ${wider}`);
    const rows = await drift();
    assert.deepEqual(
      rows.map(({ kind }) => kind),
      ['added', 'missing'],
      JSON.stringify(rows),
    );
  });

  it('is for administrators', async () => {
    await using session = await openSession(server(), SHOP_READER);
    await assert.rejects(session.query('select * from writ.drift()'), { code: '42501' });
  });
});
