import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { create } from '@bufbuild/protobuf';
import type pg from 'pg';
import { ColumnsSchema } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { onEachPostgres } from '../../../test/fixtures/each-postgres.ts';
import { skipWithout } from '../../../test/fixtures/programs.ts';
import {
  connectAs,
  JOINABLE,
  LOGIN,
  LOGIN_PASSWORD,
  openSession,
  planShop,
  RANGE,
  readCatalog,
  SECRETS,
  SHOP,
  SHOP_READER,
  SHOP_SQL,
  setUpShop,
  shopClasses,
  shopGrant,
} from '../../../test/fixtures/shop-database.ts';

onEachPostgres('maskColumn', (server) => {
  before(async () => {
    await server().exec(SHOP_SQL);
  });
  afterEach(async () => {
    const [there] = await server().exec("select to_regnamespace('writ') is not null as it");
    if (there?.it === true) await undo();
  });
  const undo = async () => server().exec((await planShop(server(), [])).undoSql);

  it('shows the masks that the classes name, in the types of the columns', async () => {
    await setUpShop(server(), [SHOP_READER]);
    await using session = await openSession(server(), SHOP_READER);
    const masked = await session.query('select * from customers order by id');
    assert.deepEqual(masked.rows[0], {
      id: 1,
      name: 'Ada',
      ssn: '*******8726',
      email: 'a***@example.com',
      card: null,
      api_key: '***',
      born: new Date(1815, 0, 1),
      seen: new Date('2024-01-01T00:00:00Z'),
      notes: null,
    });
    await using owner = await connectAs(server(), server());
    const raw = await owner.query('select * from public.customers');
    const types = (result: typeof raw) =>
      result.fields.map(({ name, dataTypeID, dataTypeModifier }) => [
        name,
        dataTypeID,
        dataTypeModifier,
      ]);
    assert.deepEqual(types(masked), types(raw));
  });

  it('masks every type under every mask without an error', async () => {
    await server().exec(ALL_TYPES_SQL);
    const [table] = (await readCatalog(server())).tables.filter(({ name }) => name === 'all_types');
    for (const { name: className } of [...shopClasses, JOINABLE, RANGE]) {
      const columns = Object.fromEntries(
        (table?.columns ?? []).map(({ name }) => [name, className]),
      );
      const classified = create(ColumnsSchema, {
        name: 'all',
        backend: SHOP,
        tables: [{ table: 'public.all_types', columns }],
      });
      const grant = shopGrant('types', { select: ['public.all_types'], statements: ['read'] });
      await setUpShop(server(), [grant], { columns: [classified], classes: [JOINABLE, RANGE] });
      await using session = await openSession(server(), grant);
      const masked = await session.query('select * from all_types');
      await using owner = await connectAs(server(), server());
      const raw = await owner.query('select * from public.all_types');
      assert.deepEqual(
        masked.fields.map(({ dataTypeID, dataTypeModifier }) => [dataTypeID, dataTypeModifier]),
        raw.fields.map(({ dataTypeID, dataTypeModifier }) => [dataTypeID, dataTypeModifier]),
        className,
      );
      assert.ok(!JSON.stringify(masked.rows).includes('secret'), className);
      const binary: object = { text: 'select * from all_types', binary: true };
      await session.query(binary as pg.QueryConfig);
    }
    await undo();
    await server().exec(
      'drop table public.all_types; drop domain public.never_null; drop type public.mood',
    );
  });
});

onEachPostgres('maskColumn of text under a collation of its own', (server) => {
  it('raises nothing, and shows no more', async function () {
    const [icu] = await server().exec(
      "select 1 from pg_collation where collprovider = 'i' limit 1",
    );
    if (icu === undefined) skipWithout(this, 'a PostgreSQL with ICU collations');
    await server().exec(`
      create collation public.no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
      create table public.people (email text collate public.no_case, ssn varchar(20) collate public.no_case);
      insert into public.people values ('Ada@Example.com', '536-22-8726'), ('@', '1234'), ('ada@', '1234567'), (null, null);`);
    const columns = { email: 'email', ssn: 'national-id' };
    const classified = create(ColumnsSchema, {
      name: 'people',
      backend: SHOP,
      tables: [{ table: 'public.people', columns }],
    });
    const grant = shopGrant('people', { select: ['public.people'], statements: ['read'] });
    await setUpShop(server(), [grant], { columns: [classified] });
    await using session = await openSession(server(), grant);
    const { rows } = await session.query('select * from people');
    assert.deepEqual(rows, [
      { email: 'A***@Example.com', ssn: '*******8726' },
      { email: '***', ssn: '****' },
      { email: 'a***@', ssn: '*******' },
      { email: null, ssn: null },
    ]);
    const same = "select email from people where email = 'a***@EXAMPLE.com'";
    assert.equal((await session.query(same)).rows.length, 1);
  });
});

onEachPostgres('P4: masks that hash and cut', (server) => {
  const grant = shopGrant('joins', {
    select: ['public.people', 'public.calls'],
    statements: ['read'],
  });
  const columns = create(ColumnsSchema, {
    name: 'people',
    backend: SHOP,
    tables: [
      {
        table: 'public.people',
        columns: { ssn: 'joinable', n: 'joinable', u: 'joinable', salary: 'range', rate: 'range' },
      },
      { table: 'public.calls', columns: { ssn: 'joinable' } },
    ],
  });
  const options = { columns: [columns], classes: [JOINABLE, RANGE] };

  before(async () => {
    await server().exec(`create table public.people (id int, ssn text, n bigint, u uuid, salary int, rate numeric(8,2));
      create table public.calls (ssn varchar(64));
      insert into public.people values
        (1, '${SECRETS.ssn}', 42, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 56789, -1234.56),
        (2, '${SECRETS.ssn}', 43, null, -2147483648, 999.99), (3, null, null, null, 2147483647, -999999.99);
      insert into public.calls values ('${SECRETS.ssn}'), ('other')`);
    await setUpShop(server(), [grant], options);
  });

  it('P4 shows the HMAC of a value under the key of the backend, equal in every table', async () => {
    await using session = await openSession(server(), grant);
    const { rows } = await session.query('select ssn, n, u from people order by id');
    const [key] = await server().exec('select inner_pad from writ.mask_key');
    const secret = Buffer.from(key?.inner_pad as Buffer).map((byte) => byte ^ 0x36);
    const hmac = createHmac('sha256', secret).update(SECRETS.ssn).digest('hex');
    assert.equal(rows[0].ssn, hmac);
    assert.equal(rows[1].ssn, hmac);
    assert.deepEqual(rows[2], { ssn: null, n: null, u: null });
    assert.match(rows[0].u, /^[0-9a-f]{8}-[0-9a-f-]{27}$/);
    assert.notEqual(rows[0].n, rows[1].n);
    const joined = await session.query(
      'select count(*)::int as n from people join calls using (ssn)',
    );
    assert.equal(joined.rows[0].n, 2);
  });

  it('P4 keeps the key when it is run again, and from everyone', async () => {
    const keyOf = async () => JSON.stringify(await server().exec('select * from writ.mask_key'));
    const before = await keyOf();
    await setUpShop(server(), [grant], options);
    assert.equal(await keyOf(), before);
    await using session = await openSession(server(), grant);
    await using gateway = await connectAs(server(), { user: LOGIN, password: LOGIN_PASSWORD });
    for (const client of [session, gateway]) {
      await assert.rejects(client.query('select * from writ.mask_key'), { code: '42501' });
    }
    const { rows } = await session.query(
      'explain (analyze, verbose, costs off) select * from people',
    );
    const text = JSON.stringify(rows);
    assert.ok(!text.includes('3636') && !text.includes('5c5c'), text);
  });

  it('P4 gives sessions no function that hashes with the key', async () => {
    await using session = await openSession(server(), grant);
    const { rows } = await session.query(
      `select p.oid::regprocedure::text as f from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname !~ '^(pg_catalog|information_schema)$' and has_function_privilege(p.oid, 'execute')
          and has_schema_privilege(n.oid, 'usage')`,
    );
    assert.deepEqual(rows, []);
  });

  it('cuts numbers towards zero, in the types of their columns', async () => {
    await using session = await openSession(server(), grant);
    const { rows } = await session.query('select salary, rate from people order by id');
    assert.deepEqual(rows, [
      { salary: 56000, rate: '-1000.00' },
      { salary: -2147483000, rate: '0.00' },
      { salary: 2147483000, rate: '-999000.00' },
    ]);
  });

  it('P4 hashes no generated column beside what the grant may write', async () => {
    await server().exec(`create table public.made (name text, tag text generated always as (upper(name)) stored);
      insert into public.made values ('x')`);
    const made = create(ColumnsSchema, {
      name: 'made',
      backend: SHOP,
      tables: [{ table: 'public.made', columns: { name: 'email', tag: 'joinable' } }],
    });
    const rights = { select: ['public.made'], statements: ['read', 'write'] };
    const reader = shopGrant('made-reader', rights);
    const writer = shopGrant('made-writer', {
      ...{ ...rights, insert: ['public.made'] },
      writeMasked: ['public.made.name'],
    });
    await setUpShop(server(), [reader, writer], { columns: [made], classes: [JOINABLE] });
    await using one = await openSession(server(), reader);
    assert.match((await one.query('select tag from made')).rows[0].tag, /^[0-9a-f]{64}$/);
    await using other = await openSession(server(), writer);
    assert.deepEqual((await other.query('select tag from made')).rows, [{ tag: null }]);
  });

  it('P4 hashes no column that the grant may write', async () => {
    const writer = shopGrant('writer', {
      update: ['public.people'],
      writeMasked: ['public.people.ssn'],
      select: ['public.people'],
      columns: [{ table: 'public.people', update: ['ssn'] }],
      statements: ['read', 'write'],
    });
    const { warnings } = await planShop(server(), [writer], options);
    assert.match(warnings.join('\n'), /update of public.people.ssn is not set up/);
    await setUpShop(server(), [writer], options);
    await using session = await openSession(server(), writer);
    await session.query('update people set id = 1 where id = 1');
    await assert.rejects(session.query("update people set ssn = 'guess'"), {
      code: /^(42501|0A000)$/,
    });
  });
});

/** The ends of each type's range, and what is easily forgotten. */
const ALL_TYPES_SQL = `
  create type public.mood as enum ('secret', 'ok');
  create domain public.never_null as text not null check (value <> '');
  create table public.all_types (
    t text, v varchar, v3 varchar(3), c char, c20 char(20), b bool, i2 int2, i4 int4, i8 int8, n numeric, n2 numeric(10,2),
    f4 real, f8 double precision, d date, ts timestamp, ts3 timestamp(3), tz timestamptz, tz0 timestamptz(0), ti time, itv interval,
    u uuid, j json, jb jsonb, x xml, by bytea, ip inet, m money, p point, ta text[], ia int[], e public.mood, nn public.never_null,
    r int4range, ch "char", nm name, bit3 bit(3), tsv tsvector);
  insert into public.all_types (nn) values ('secret never null');
  insert into public.all_types (t, v, v3, c, c20, d, ts, ts3, tz, tz0, e, nn, ta, j) values
    ('', '', '', '', '', '-infinity', '-infinity', '-infinity', '-infinity', '-infinity', 'secret', 's', '{secret}', '"secret"'),
    ('a secret@b@example.org', '@secret', '@@@', '@', 'x@y', 'infinity', 'infinity', 'infinity', 'infinity', 'infinity', 'ok', 's', '{}', 'null'),
    ('äöüsecret@ß', 'ééééééééé', 'äöü', 'ä', 'a very secret value', '4714-11-24 BC', '4714-11-24 00:00:00 BC', '4714-11-24 00:00:00 BC', '4714-11-24 00:00:00+00 BC', '4714-11-24 00:00:00+00 BC', null, 's', null, null),
    (repeat('x', 100000), 'y', 'z', 'w', 'v', '5874897-12-31', '294276-12-31 23:59:59.999999', '294276-12-31 23:59:59', '294276-12-31 23:59:59.999999+00', '294276-12-31 23:59:59+00', null, 's', null, null),
    (null, null, null, null, null, '0044-03-15 BC', '0001-01-01 00:00:00 BC', '0001-12-31 23:59:59.999', '0001-01-01 00:00:00+00 BC', '2000-02-29 12:00:00+14', null, 's', null, null);`;
