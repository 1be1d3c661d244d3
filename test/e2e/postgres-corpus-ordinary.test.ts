/** Done-when 1 of the PostgreSQL gateway: ordinary statements, none of which may be refused. */
import assert from 'node:assert/strict';
import { Layout } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { ORDINARY_SQL, ordinaryRows } from '../corpus/ordinary-shop.ts';
import { printTable } from '../corpus/print-table.ts';
import { runOrdinary } from '../corpus/run-ordinary.ts';
import { onEachPostgres } from '../fixtures/each-postgres.ts';
import { connectAs, groupRoleOf, shopGrant } from '../fixtures/shop-database.ts';
import { type ShopGateway, startShopGateway } from '../fixtures/shop-gateway.ts';

const TABLES = ['orders', 'products', 'order_items', 'Account'].map((name) => `public.${name}`);
const WRITABLE = [...TABLES, 'public.customers'];
const APPLICATION = shopGrant('application', {
  select: [...WRITABLE, 'public.recent_orders'],
  insert: WRITABLE,
  update: WRITABLE,
  delete: WRITABLE,
  execute: ['public.plus(integer, integer)'],
  sequences: ['public.orders_id_seq', 'public.products_id_seq'],
  statements: ['read', 'write'],
});
const AT_LEAST = 300;

onEachPostgres('G28 ordinary statements of ORMs and tools', (server, version) => {
  let gateway: ShopGateway;
  before(async () => {
    await server().exec(ORDINARY_SQL);
    gateway = await startShopGateway(server(), [APPLICATION], { layout: Layout.IN_PLACE });
    const group = groupRoleOf(APPLICATION);
    await server().exec(
      `create role control login password 'control' in role ${group};
       alter role control set search_path = public`,
    );
  });
  after(() => gateway?.[Symbol.asyncDispose]());

  it('are answered through the gateway as they are directly, for a login with equal rights', async () => {
    await using direct = await connectAs(server(), { user: 'control', password: 'control' });
    await using through = await gateway.connect(APPLICATION);
    const { rows } = await through.query('select current_user as role');
    const base = ordinaryRows().replaceAll('public.customers ', 'writ_base_public.customers ');
    const { programs, differences, failing } = await runOrdinary({
      direct: { client: direct, role: 'control' },
      through: { client: through, role: rows[0].role },
      reset: () => server().exec(base),
    });
    const total = programs.reduce((sum, { statements }) => sum + statements, 0);
    printTable(
      `${total} ordinary statements on PostgreSQL ${version}: ${differences.length} answered otherwise`,
      ['program', 'statements', 'answered otherwise'],
      programs.map(({ program, statements }) => [
        program,
        statements,
        differences.filter((difference) => difference.program === program).length,
      ]),
    );
    assert.deepEqual(failing, []);
    assert.deepEqual(differences, []);
    assert.ok(total >= AT_LEAST);
  }).timeout(120_000);
});
