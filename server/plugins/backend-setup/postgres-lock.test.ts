import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import { ResourceSchema } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { onEachPostgres } from '../../../test/fixtures/each-postgres.ts';
import {
  groupRoleOf,
  openSession,
  planShop,
  SHOP_SQL,
  setUpShop,
  shopGrant,
} from '../../../test/fixtures/shop-database.ts';
import { withGrantNames } from '../../access/grant-names.ts';

const DUMPER = shopGrant('dumper', {
  select: ['public.orders', 'public.customers'],
  columns: [{ table: 'public.vault', select: ['id'] }],
  statements: ['read', 'lock'],
});
const READER = shopGrant('plain', { select: ['public.orders'], statements: ['read'] });
const LOCK = 'lock table public.orders in access share mode';

onEachPostgres('a grant with the class lock', (server) => {
  before(async () => {
    await server().exec(SHOP_SQL);
  });
  afterEach(async () => {
    await server().exec((await planShop(server(), [])).undoSql);
  });

  it('can lock the tables that it reads whole, and read their sequences, as pg_dump does', async () => {
    const { warnings } = await setUpShop(server(), [DUMPER]);
    const [warning] = warnings.filter((text) => text.includes('public.orders'));
    assert.match(warning ?? '', /may be locked, so columns that it gets later are seen at once/);
    await using session = await openSession(server(), DUMPER);
    await session.query(`begin; ${LOCK}; commit`);
    assert.equal((await session.query('select last_value from orders_id_seq')).rowCount, 1);
    for (const sql of ["select nextval('orders_id_seq')", "select setval('orders_id_seq', 1)"]) {
      await assert.rejects(session.query(sql), { code: '42501' }, sql);
    }
  });

  it('reaches no more of tables with classified columns, or granted by column', async () => {
    await setUpShop(server(), [DUMPER]);
    await using session = await openSession(server(), DUMPER);
    for (const sql of [
      'lock table public.customers in access share mode',
      'lock table public.vault in access share mode',
      'select secret from public.vault',
      'select ssn from public.customers',
      'lock table public.orders in share mode',
    ]) {
      await assert.rejects(session.query(`begin; ${sql}`), { code: '42501' }, sql);
      await session.query('rollback');
    }
  });

  it('keeps a table by column while one of its columns is hidden, and says that it cannot be locked', async () => {
    await setUpShop(server(), [DUMPER]);
    await server().exec("alter table public.orders add pin text default 'hidden'");
    const { warnings } = await setUpShop(server(), [DUMPER]);
    assert.ok(warnings.some((text) => /public.orders cannot be locked or dumped/.test(text)));
    await using session = await openSession(server(), DUMPER);
    await assert.rejects(session.query('select pin from orders'), { code: '42501' });
    await assert.rejects(session.query(`begin; ${LOCK}`), { code: '42501' });
    await server().exec('alter table public.orders drop pin');
  });

  it('is what it takes', async () => {
    await setUpShop(server(), [READER]);
    await using session = await openSession(server(), READER);
    await assert.rejects(session.query(`begin; ${LOCK}`), { code: '42501' });
  });
});

describe('a grant that loses the class lock', () => {
  it('names other roles, so that it loses the right', () => {
    const named = [DUMPER, { ...DUMPER, rights: withoutLock() }].map((grant) => {
      const body = { case: 'grant' as const, value: grant };
      const [resource] = withGrantNames([create(ResourceSchema, { name: 'dumper', body })]);
      return resource?.body.case === 'grant' ? groupRoleOf(resource.body.value) : '';
    });
    assert.notEqual(named[0], named[1]);
  });
});

function withoutLock() {
  if (DUMPER.rights.case !== 'postgres') throw new Error('not a grant on PostgreSQL');
  const value = { ...DUMPER.rights.value, statements: ['read'] };
  return { case: 'postgres' as const, value };
}
