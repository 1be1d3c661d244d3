import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import { ColumnsSchema, Layout } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { stateOf } from '../../../test/fixtures/database-state.ts';
import { onEachPostgres } from '../../../test/fixtures/each-postgres.ts';
import { LEAK_CORPUS } from '../../../test/fixtures/leak-corpus.ts';
import {
  connectAs,
  openSession,
  planShop,
  SECRETS,
  SHOP,
  SHOP_READER,
  SHOP_SQL,
  setUpShop,
  shopGrant,
} from '../../../test/fixtures/shop-database.ts';

const IN_PLACE = { layout: Layout.IN_PLACE };
const ORM = shopGrant('orm', {
  select: ['public.customers', 'public.orders'],
  insert: ['public.customers', 'public.orders'],
  update: ['public.customers', 'public.orders'],
  delete: ['public.customers', 'public.orders'],
  writeMasked: ['public.customers.email'],
  statements: ['read', 'write'],
});
const NARROW = shopGrant('narrow', {
  columns: [{ table: 'public.customers', select: ['id', 'name'], update: ['name'] }],
  statements: ['read', 'write'],
});

onEachPostgres('P3: the layout in-place', (server) => {
  let untouched: string[];
  before(async () => {
    await server().exec(SHOP_SQL);
    untouched = await stateOf(server());
  });
  afterEach(async () => {
    const [there] = await server().exec("select to_regnamespace('writ') is not null as it");
    if (there?.it === true) await undo();
    assert.deepEqual(await stateOf(server()), untouched);
  });
  const undo = async () => server().exec((await planShop(server(), [], IN_PLACE)).undoSql);

  it('P3 answers qualified names with the view, and unqualified ones too', async () => {
    await setUpShop(server(), [SHOP_READER, NARROW], IN_PLACE);
    await using session = await openSession(server(), SHOP_READER);
    for (const name of ['customers', 'public.customers', '"public"."customers" AS "c1_0"']) {
      const { rows } = await session.query(`select * from ${name} where id = 1`);
      assert.equal(rows[0].ssn, '*******8726');
      assert.equal(rows[0].email, 'a***@example.com');
    }
    await assert.rejects(session.query('select * from writ_base_public.customers'), {
      code: '42501',
    });
    await using narrow = await openSession(server(), NARROW);
    assert.equal((await narrow.query('select id, name from public.customers')).rowCount, 2);
    await assert.rejects(narrow.query('select * from public.customers'), { code: '42501' });
    await assert.rejects(narrow.query('select * from public.orders'), { code: '42501' });
  });

  it('P3 takes what Hibernate and Prisma write', async () => {
    await setUpShop(server(), [ORM, NARROW], IN_PLACE);
    await using session = await openSession(server(), ORM);
    const made = await session.query(
      `INSERT INTO "public"."customers" ("name","email") VALUES ($1,$2) RETURNING "public"."customers"."id", "public"."customers"."name", "public"."customers"."email"`,
      ['Mary', 'mary@example.org'],
    );
    const [{ id, ...shown }] = made.rows;
    assert.deepEqual(shown, { name: 'Mary', email: 'm***@example.org' });
    await session.query('update public.customers set email=$1, name=$2 where id=$3', [
      shown.email,
      'Mary S.',
      id,
    ]);
    const read = await session.query(
      `SELECT "t0"."id", "t0"."name", "o"."total" FROM "public"."customers" AS "t0" LEFT JOIN "public"."orders" AS "o" ON "o"."customer_id" = "t0"."id" WHERE ("t0"."name" LIKE $1::text) LIMIT $2 OFFSET $3`,
      ['Mary%', 1, 0],
    );
    assert.deepEqual(read.rows, [{ id, name: 'Mary S.', total: null }]);
    await session.query(`insert into public.orders (customer_id, total) values ($1, 1)`, [id]);
    await session.query('delete from public.orders where customer_id=$1', [id]);
    await using other = await openSession(server(), NARROW);
    await other.query(`update "public"."customers" set "name" = 'M' where "id" = $1`, [id]);
    await assert.rejects(other.query(`update public.customers set email = 'x' where id = 1`), {
      code: '42501',
    });
    const [row] = await server().exec(
      `select name, email from writ_base_public.customers where id = ${id}`,
    );
    assert.deepEqual(row, { name: 'M', email: 'mary@example.org' });
    const gone = await session.query('delete from "public"."customers" where id = $1', [id]);
    assert.equal(gone.rowCount, 1);
  });

  it('P3 changes nothing when it is run again, from a plan of before or of now', async () => {
    const first = await planShop(server(), [ORM, SHOP_READER], IN_PLACE);
    await server().exec(first.sql);
    const once = await stateOf(server());
    await server().exec(first.sql);
    assert.deepEqual(await stateOf(server()), once);
    const second = await planShop(server(), [ORM, SHOP_READER], IN_PLACE);
    assert.deepEqual(
      second.warnings.filter((text) => text.includes('moves to')),
      first.warnings.filter((text) => text.includes('moves to')),
    );
    await server().exec(second.sql);
    assert.deepEqual(await stateOf(server()), once);
    await server().exec(second.undoSql);
    assert.deepEqual(await stateOf(server()), untouched);
  });

  it('P3 goes from one layout to the other and back', async () => {
    await setUpShop(server(), [SHOP_READER]);
    const front = await stateOf(server());
    await setUpShop(server(), [SHOP_READER], IN_PLACE);
    assert.notDeepEqual(await stateOf(server()), front);
    await setUpShop(server(), [SHOP_READER]);
    assert.deepEqual(await stateOf(server()), front);
  });

  it('P3 brings a table home that no grant names any more', async () => {
    await setUpShop(server(), [SHOP_READER], IN_PLACE);
    const orders = shopGrant('orders', { select: ['public.orders'], statements: ['read'] });
    await setUpShop(server(), [orders], IN_PLACE);
    const [row] = await server().exec(
      `select relkind from pg_class where oid = 'public.customers'::regclass`,
    );
    assert.equal(row?.relkind, 'r');
  });

  it('P8 keeps row policies in force behind views that several grants share, for writes too', async () => {
    await setUpShop(server(), [SHOP_READER, ORM], IN_PLACE);
    await server().exec(`alter table writ_base_public.customers enable row level security;
      create policy own on writ_base_public.customers
        using (writ.identity() = 'spiffe://example.org/orm' or id = 2) with check (name <> 'forbidden')`);
    await setUpShop(server(), [SHOP_READER, ORM], IN_PLACE);
    {
      await using reader = await openSession(server(), SHOP_READER);
      assert.deepEqual((await reader.query('select id from public.customers')).rows, [{ id: 2 }]);
      await using orm = await openSession(server(), ORM);
      assert.equal((await orm.query('select id from public.customers')).rowCount, 2);
      for (const sql of [
        `insert into public.customers (name, email) values ('forbidden', 'x@example.org')`,
        `update public.customers set name = 'forbidden', email = 'x@example.org' where id = 1`,
      ]) {
        await assert.rejects(orm.query(sql), { code: '42501' }, sql);
      }
    }
    await server().exec(`drop policy own on writ_base_public.customers;
      alter table writ_base_public.customers disable row level security`);
  });

  it('P3 keeps foreign keys of tables that belong to an ordinary role', async () => {
    const own = (role: string) =>
      server().exec(
        `alter table public.customers owner to ${role}; alter table public.orders owner to ${role}`,
      );
    await server().exec('create role app');
    await own('app');
    const before = await stateOf(server());
    await setUpShop(server(), [ORM], IN_PLACE);
    {
      await using session = await openSession(server(), ORM);
      await session.query('insert into public.orders (customer_id, total) values (1, 77)');
      await assert.rejects(
        session.query('insert into public.orders (customer_id, total) values (99, 1)'),
        { code: '23503' },
      );
      await assert.rejects(session.query('delete from public.customers where id = 1'), {
        code: '23503',
      });
      await session.query('delete from public.orders where total = 77');
    }
    await undo();
    assert.deepEqual(await stateOf(server()), before);
    await own('postgres');
    await server().exec('drop role app');
  });

  it('P3 tells who loses the table', async () => {
    await server().exec('create role app; grant select on public.customers to app');
    const { sql, warnings } = await planShop(server(), [SHOP_READER], IN_PLACE);
    assert.match(warnings.join('\n'), /public.customers moves to schema writ_base_public/);
    await using owner = await connectAs(server(), server());
    const told: string[] = [];
    owner.on('notice', ({ message }) => told.push(message ?? ''));
    await owner.query(sql);
    assert.match(told.join('\n'), /none on the view in its place: app/);
    await undo();
    await server().exec('drop owned by app; drop role app');
  });

  it('P3 P2 moves, shows and writes tables with odd names', async () => {
    const table = `t'"\\ ${'ü'.repeat(29)}`;
    const quoted = `"Od""d '\\"."${table.replaceAll('"', '""')}"`;
    await server().exec(`create schema "Od""d '\\"; create table ${quoted}
      ("K ""1" int, "k'2" varchar(5) default 'x', "se""cret'" varchar(40) not null, s serial, j json, primary key ("K ""1", "k'2"))`);
    const name = `Od"d '\\.${table}`;
    const columns = create(ColumnsSchema, {
      name: 'odd',
      backend: SHOP,
      tables: [{ table: name, columns: { 'se"cret\'': 'email' } }],
    });
    const grant = shopGrant('odd', {
      ...{ select: [name], insert: [name], update: [name], delete: [name] },
      writeMasked: [`${name}.se"cret'`],
      statements: ['read', 'write'],
    });
    for (const layout of [Layout.IN_PLACE, Layout.FRONT, Layout.IN_PLACE]) {
      await setUpShop(server(), [grant], { layout, columns: [columns] });
      await using session = await openSession(server(), grant);
      const place = layout === Layout.IN_PLACE ? quoted : quoted.replace(/^.*?[.]/, '');
      const made = await session.query(
        `insert into ${place} ("K ""1", "se""cret'", j) values (1, 'ada@example.org', '{}') returning *`,
      );
      assert.equal(made.rows[0]['se"cret\''], 'a***@example.org');
      assert.equal(made.rows[0]["k'2"], 'x');
      const changed = await session.query(
        `update ${place} set "K ""1" = 2, "se""cret'" = 'b@example.org', j = '[]' where "K ""1" = 1 returning *`,
      );
      assert.equal(changed.rows[0]['se"cret\''], 'b***@example.org');
      assert.equal((await session.query(`delete from ${place}`)).rowCount, 1);
    }
    await undo();
    await server().exec(`drop schema "Od""d '\\" cascade`);
  });

  it('P3 leaves a table where its schema has too long a name to be moved', async () => {
    const schema = 's'.repeat(60);
    await server().exec(`create schema ${schema}; create table ${schema}.t (a int, email text)`);
    const columns = create(ColumnsSchema, {
      name: 'long',
      backend: SHOP,
      tables: [{ table: `${schema}.t`, columns: { email: 'email' } }],
    });
    const grant = shopGrant('long', { select: [`${schema}.t`], statements: ['read'] });
    const { warnings } = await setUpShop(server(), [grant], { ...IN_PLACE, columns: [columns] });
    assert.match(warnings.join('\n'), /has no view: the name of its schema is too long/);
    {
      await using session = await openSession(server(), grant);
      await assert.rejects(session.query(`select a from ${schema}.t`), { code: '42501' });
    }
    await undo();
    await server().exec(`drop schema ${schema} cascade`);
  });

  it('G20 P3 leaks nothing', async () => {
    await setUpShop(server(), [SHOP_READER, ORM], IN_PLACE);
    for (const grant of [SHOP_READER, ORM]) {
      for (const sql of LEAK_CORPUS) {
        await using session = await openSession(server(), grant);
        await session.query('begin');
        const told: unknown[] = [];
        session.on('notice', (notice) => told.push({ ...notice }));
        const seen = await session.query(sql).then(
          (result: unknown) => [result].flat(),
          (error: unknown) => [{ ...(error as object) }, String(error)],
        );
        const text = JSON.stringify([seen, told]);
        for (const secret of Object.values(SECRETS)) {
          assert.ok(!text.includes(secret), `${sql}: ${text.slice(0, 500)}`);
        }
        await session.query('rollback');
      }
    }
  });
});
