import assert from 'node:assert/strict';
import type { EventEmitter } from 'node:events';
import type pg from 'pg';
import { onEachPostgres } from '../../../test/fixtures/each-postgres.ts';
import { LEAK_CORPUS } from '../../../test/fixtures/leak-corpus.ts';
import {
  connectAs,
  groupRoleOf,
  openSession,
  planShop,
  SECRETS,
  SHOP_READER,
  SHOP_SQL,
  SHOP_WRITER,
  setUpShop,
  shopColumns,
  shopGrant,
  viewSchemaOf,
} from '../../../test/fixtures/shop-database.ts';

const MASK_WRITER = shopGrant('mask-writer', {
  ...{ select: ['public.customers'], insert: ['public.customers'], update: ['public.customers'] },
  delete: ['public.customers'],
  writeMasked: ['ssn', 'email', 'born', 'notes'].map((name) => `public.customers.${name}`),
  statements: ['read', 'write'],
});

/** A secret in the ways in which it could stand in a result. */
function formsOf(secret: string): string[] {
  const bytes = Buffer.from(secret);
  return [
    secret,
    [...secret].reverse().join(''),
    secret.replaceAll('-', ''),
    bytes.toString('hex'),
    bytes.toString('base64'),
    [...bytes].join(','),
    [...secret]
      .map((c) => (c >= '0' && c <= '9' ? String.fromCharCode(97 + Number(c)) : c))
      .join(''),
  ];
}

const FORBIDDEN = Object.values(SECRETS).flatMap(formsOf);

/** Everything that a client gets to see while a text runs: rows, COPY data, errors, notices, reports. */
async function seenBy(client: pg.Client, query: string | pg.QueryConfig): Promise<string> {
  const wire: unknown = Reflect.get(client, 'connection');
  const connection = wire as EventEmitter;
  const seen: unknown[] = [];
  const note = (message: { chunk?: Buffer }) => {
    seen.push({ ...message }, message.chunk?.toString('latin1'));
  };
  const names = ['copyData', 'parameterStatus', 'notice', 'notification', 'errorMessage'];
  for (const name of names) connection.on(name, note);
  try {
    const result: pg.QueryResult | pg.QueryResult[] = await client.query(query);
    for (const one of [result].flat()) seen.push(...one.rows);
  } catch (error) {
    seen.push({ ...(error as object) }, String(error));
  } finally {
    for (const name of names) connection.removeListener(name, note);
    await client.query('rollback').catch(() => undefined);
  }
  return JSON.stringify(seen, (_key, value) =>
    value?.type === 'Buffer' ? Buffer.from(value.data).toString('latin1') : value,
  );
}

onEachPostgres('masked views', (server) => {
  before(async () => {
    await server().exec(SHOP_SQL);
    await server().exec('analyze');
    await setUpShop(server(), [SHOP_READER, SHOP_WRITER, MASK_WRITER]);
  });

  it('G20: show nothing that they mask, however a session asks', async () => {
    for (const grant of [SHOP_READER, SHOP_WRITER, MASK_WRITER]) {
      await using session = await openSession(server(), grant);
      for (const sql of LEAK_CORPUS) {
        const seen = await seenBy(session, sql);
        const leaked = FORBIDDEN.filter((form) => seen.includes(form));
        assert.deepEqual(leaked, [], `${sql} shows ${seen}`);
      }
    }
  });

  it('G20 P2: show nothing to who writes what they mask', async () => {
    await using session = await openSession(server(), MASK_WRITER);
    const hostile = [
      'update customers set name = ssn returning *',
      'update customers set name = coalesce(email, ssn) returning to_jsonb(customers)',
      "update customers set email = reverse(email) || 'x' returning email, ssn",
      "insert into customers (name, email) select ssn, 'x' || email from customers returning *",
      'update customers set name = null',
      'update customers set id = 1',
      "update customers set ssn = repeat('1', 99)",
      'update customers set born = ssn::date',
      'explain (analyze, verbose) update customers set name = ssn',
      `select "${viewSchemaOf(MASK_WRITER)}"."update customers"()`,
      `select pg_get_functiondef('"${viewSchemaOf(MASK_WRITER)}"."update customers"'::regproc)`,
      "with w as (update customers set name = 'x' returning *) select string_agg(w::text, '') from w",
      'delete from customers where id = 1 returning *',
    ];
    for (const sql of hostile) {
      const seen = await seenBy(session, `begin; ${sql}`);
      const leaked = FORBIDDEN.filter((form) => seen.includes(form));
      assert.deepEqual(leaked, [], `${sql} shows ${seen}`);
    }
  });

  it('would be seen to leak by this test if they did', async () => {
    await using owner = await connectAs(server(), server());
    const reading = LEAK_CORPUS.filter((sql) => /^(select(?! lo_)|table|with|copy \()/.test(sql));
    let leaks = 0;
    for (const sql of reading) {
      const seen = await seenBy(owner, sql);
      if (FORBIDDEN.some((form) => seen.includes(form))) leaks += 1;
    }
    assert.ok(leaks > 0.75 * reading.length, `${leaks} of ${reading.length}`);
  });

  it('G20: show nothing in binary results of the extended protocol', async () => {
    await using session = await openSession(server(), SHOP_READER);
    for (const text of ['select * from customers', 'select * from customers where id = $1']) {
      const values = text.includes('$1') ? [1] : [];
      const query: object = { text, values, binary: true };
      const seen = await seenBy(session, query as pg.QueryConfig);
      assert.deepEqual(
        FORBIDDEN.filter((form) => seen.includes(form)),
        [],
        seen,
      );
    }
  });

  it('G26: tell a session that asks digit by digit no more than the mask', async () => {
    await using session = await openSession(server(), SHOP_READER);
    let found = '';
    for (let place = 1; place <= SECRETS.ssn.length; place += 1) {
      const { rows } = await session.query(
        `select d from unnest(string_to_array('0123456789-*', null)) d
           where exists (select from customers where id = 1 and substr(ssn, ${place}, 1) = d)`,
      );
      found += rows[0]?.d ?? '?';
    }
    assert.equal(found, '*******8726');
  });

  it('G28: leave the data as it was after every attempt', async () => {
    const [row] = await server().exec(
      'select count(*)::int as n, min(ssn) as ssn, (select count(*)::int from orders) as orders from customers',
    );
    assert.deepEqual(row, { n: 2, ssn: SECRETS.ssn, orders: 2 });
    const [owned] = await server().exec(
      'select (select count(*)::int from pg_largeobject_metadata) as objects',
    );
    assert.deepEqual(owned, { objects: 0 });
  });

  it('P7: are no security barrier, so that equality and LIKE use the indexes of the table', async () => {
    await server().exec(`
        create table public.metrics (id int, amount numeric, label text collate "C", ssn text);
        insert into public.metrics select i, i * 1.5, 'label ' || i, '${SECRETS.ssn}' from generate_series(1, 20000) i;
        create index on public.metrics (amount); create index on public.metrics (label); analyze public.metrics`);
    const grant = shopGrant('metrics', { select: ['public.metrics'], statements: ['read'] });
    const columns = shopColumns.map((one) => ({
      ...one,
      tables: one.tables.map((table) => ({
        ...table,
        table: 'public.metrics',
        columns: { ssn: 'national-id' },
      })),
    }));
    await setUpShop(server(), [grant], { columns });
    const barriers = await server().exec(
      `select relname from pg_class where relnamespace in (select oid from pg_namespace where nspname like 'writ_v_%')
         and array_to_string(reloptions, ',') like '%security_barrier%'`,
    );
    assert.deepEqual(barriers, []);
    await using session = await openSession(server(), grant);
    for (const where of ['amount = 4500', "label like 'label 777%'", 'amount between 3 and 9']) {
      const { rows } = await session.query(`explain select * from metrics where ${where}`);
      assert.match(JSON.stringify(rows), /Index/, where);
    }
  });
  it('P8: leaves row security in force behind the view, by an identity that cannot be spoofed', async () => {
    await setUpShop(server(), [SHOP_READER, SHOP_WRITER]);
    await server().exec(`
        alter table public.customers add column tenant text default 'spiffe://example.org/reporting';
        update public.customers set tenant = 'spiffe://example.org/writing' where id = 2;
        alter table public.customers enable row level security;
        create policy own on public.customers using (tenant = (select writ.identity()));
        alter table public.orders enable row level security;
        create policy own on public.orders using (customer_id = case writ.identity() when 'spiffe://example.org/reporting' then 1 else 2 end)`);
    await setUpShop(server(), [SHOP_READER, SHOP_WRITER]);
    for (const [grant, id] of [
      [SHOP_READER, 1],
      [SHOP_WRITER, 2],
    ] as const) {
      await using session = await openSession(server(), grant);
      const attempts = [
        '',
        "set writ.identity = 'x'",
        "select set_config('session_authorization', 'postgres', false)",
        'set session authorization postgres',
        'set role postgres',
        `set role ${groupRoleOf(id === 1 ? SHOP_WRITER : SHOP_READER)}`,
        'set row_security = off',
        'set search_path = pg_temp',
        'create function pg_temp.identity() returns text language sql as $$ select $q$x$q$ $$',
        'create or replace function writ.identity() returns text language sql as $$ select $q$x$q$ $$',
        "update writ.session set group_name = 'x'",
        'reset all',
        `set role ${groupRoleOf(grant)}`,
      ];
      for (const attempt of attempts) {
        await session.query(attempt).catch(() => undefined);
        await session.query(
          `set row_security = on; set search_path = ${viewSchemaOf(grant)}, public`,
        );
        const { rows } = await session.query(
          'select c.id, o.customer_id from customers c, orders o',
        );
        assert.deepEqual(rows, [{ id, customer_id: id }], attempt);
      }
    }
    const [row] = await server().exec('select writ.identity() as nobody');
    assert.deepEqual(row, { nobody: null });
    const { undoSql } = await planShop(server(), []);
    await assert.rejects(server().exec(undoSql), (error: { detail?: string }) =>
      /policy own/.test(error.detail ?? ''),
    );
    await server().exec(
      'drop policy own on public.customers; drop policy own on public.orders; alter table public.orders disable row level security; alter table public.customers disable row level security; alter table public.customers drop column tenant cascade',
    );
  });
});
