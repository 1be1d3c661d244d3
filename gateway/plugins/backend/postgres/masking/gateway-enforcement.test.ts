import assert from 'node:assert/strict';
import pg from 'pg';
import { FindingKind } from '../../../../../proto/gen/writ/gateway/v1/recording_pb.ts';
import { GatewayEnforced } from '../../../../../test/fixtures/gateway-enforced.ts';
import { LEAK_CORPUS } from '../../../../../test/fixtures/leak-corpus.ts';
import {
  POSTGRES_VERSIONS,
  postgresTitle,
  requirePostgres,
} from '../../../../../test/fixtures/postgres.ts';
import {
  bind,
  closeStatement,
  describeStatement,
  execute,
  parse,
  query,
  sync,
} from '../../../../../test/fixtures/relay-world.ts';
import { SECRETS, SHOP_SQL, shopGrant } from '../../../../../test/fixtures/shop-database.ts';
import { errorOf, typesOf, type WireClient } from '../../../../../test/fixtures/wire-client.ts';

const SQL = `${SHOP_SQL}
  create view public.people as select id, name as label, ssn as number from public.customers;
  create table public.events (at date, ssn text) partition by range (at);
  create table public.events_now partition of public.events default;
  create function public.tell(text) returns text language plpgsql as
    $$ begin raise notice 'it is %', $1; raise exception 'it was %', $1; end $$;`;

const READER = shopGrant('reporting', {
  select: ['public.customers', 'public.orders', 'public.people', 'public.events'],
  statements: ['read', 'write'],
  insert: ['public.orders'],
  update: ['public.customers'],
});

/** A secret in the ways in which it could stand in bytes. */
const FORBIDDEN = Object.values(SECRETS).flatMap((secret) => [
  secret,
  [...secret].reverse().join(''),
  secret.replaceAll('-', ''),
  Buffer.from(secret).toString('hex'),
  Buffer.from(secret).toString('base64'),
]);

function assertNoLeak(messages: readonly { body: Buffer }[], what: string): void {
  const bytes = Buffer.concat(messages.map(({ body }) => body)).toString('latin1');
  for (const secret of FORBIDDEN) assert.ok(!bytes.includes(secret), `${what} shows ${secret}`);
}

for (const version of POSTGRES_VERSIONS) {
  describe(`GatewayEnforcement before ${postgresTitle(version)}`, function () {
    this.timeout(60_000);
    let world: GatewayEnforced;
    let client: WireClient;
    before(async function () {
      requirePostgres(this, version);
      world = await GatewayEnforced.start({ version, sql: SQL, grant: READER });
    });
    after(async () => world?.[Symbol.asyncDispose]());
    beforeEach(async () => {
      client = await world.connect();
    });
    afterEach(() => client.socket.destroy());

    async function drive(): Promise<pg.Client> {
      const driver = new pg.Client(world.wire.clientConfig);
      driver.on('error', () => undefined);
      await driver.connect();
      return driver;
    }

    async function ask(...bytes: readonly Uint8Array[]) {
      client.send(...bytes);
      return client.until('Z');
    }

    it('masks plain columns by where they come from, whatever they are called', async () => {
      const driver = await drive();
      const { rows } = await driver.query(
        'select c.name, c.ssn as x, c.email, c.card, c.born::text as born, c.seen from customers c where c.id = $1',
        [1],
      );
      assert.deepEqual(
        { ...rows[0], seen: rows[0].seen.toISOString() },
        {
          name: 'Ada',
          x: '*******8726',
          email: 'a***@example.com',
          card: null,
          born: '***',
          seen: '2024-01-01T00:00:00.000Z',
        },
      );
      const count = await driver.query('select count(*) as n, now() as t from customers');
      assert.equal(count.rows[0].n, '2');
      await driver.end();
    });

    it('G21 shows no value of the leak corpus, in the simple and the extended protocol', async () => {
      for (const sql of LEAK_CORPUS) {
        const simple = await ask(query(sql));
        assertNoLeak(simple, sql);
        assert.equal(typesOf(simple).at(-1), 'Z', `${sql} ends the session`);
        await ask(query('rollback'));
        const extended = await ask(parse('', sql), bind(''), execute(), sync());
        assertNoLeak(extended, sql);
        assert.equal(typesOf(extended).at(-1), 'Z', `${sql} ends the session`);
        await ask(query('rollback'));
      }
    });

    it('G21 names the rule of every refusal', async () => {
      for (const [sql, rule] of [
        ["select id from customers where ssn like '5%'", 'masked-column-in-condition'],
        ['select id from customers order by ssn', 'masked-column-in-condition'],
        ['select id, ssn from customers order by 2', 'masked-column-in-condition'],
        [
          "select count(*) from (select ssn as s from customers) q where s like '5%'",
          'masked-column-in-condition',
        ],
        ["select count(*) from customers c where c::text like '%5%'", 'masked-column-in-condition'],
        [
          "select 1 / (case when ssn like '5%' then 0 else 1 end) from customers",
          'masked-column-in-condition',
        ],
        [
          'insert into orders (customer_id, note) select id, ssn from customers',
          'masked-column-copied',
        ],
        ['update customers set name = ssn where id = 1', 'masked-column-copied'],
        ['select ssn::int from customers', 'masked-column-in-condition'],
        ['select 1 / (ascii(ssn) - 53) from customers', 'masked-column-in-condition'],
        ["select id, regexp_matches(ssn, '^5') from customers", 'masked-column-in-condition'],
        [
          "select count(*) from (customers c cross join orders o) as j(a, b, x) where x like '5%'",
          'masked-column-in-condition',
        ],
        [
          "with x(a, b) as (select id, ssn from customers) select count(*) from x where b like '5%'",
          'masked-column-in-condition',
        ],
        [
          "select count(*) filter (where ssn like '5%') from customers",
          'masked-column-in-condition',
        ],
        [
          "select id from customers where 'x' = any (select left(ssn, 1) from customers)",
          'masked-column-in-condition',
        ],
        ["update customers set name = 'x' where ssn like '5%'", 'masked-column-in-condition'],
        ['do $$ begin end $$', 'do-block'],
        ['copy customers to stdout', 'copy-of-masked-table'],
        ["select tell('x')", 'function-not-listed'],
        ['select * from pg_stats', 'statistics-of-masked-tables'],
        ['select * from vault', 'relation-not-granted'],
        ['delete from orders where id = 1', 'relation-not-granted'],
      ] as const) {
        const error = errorOf(await ask(query(sql)));
        assert.equal(error?.message, `refused by the gateway: ${rule}`, sql);
        assert.equal(error?.sqlstate, '42501');
      }
      const copy = await ask(query('copy customers to stdout'));
      assert.ok(copy.some(({ body }) => body.includes('read the table by a SELECT')));
    });

    it('G22 tells no value in errors, notices and settings', async () => {
      for (const sql of [
        'select name::int from customers',
        'insert into orders (id, customer_id) values (1, 1)',
        "select 'a'::uuid",
      ]) {
        const messages = await ask(query(sql));
        const error = messages.find(({ type }) => type === 'E');
        assert.ok(error, sql);
        assertNoLeak(messages, sql);
        assert.match(errorOf(messages)?.message ?? '', /the gateway withholds its text/);
      }
      assert.match(
        errorOf(await ask(query('select nothing from customers')))?.message ?? '',
        /column "nothing" does not exist/,
      );
    });

    it('G23 holds for statements that are never described, described before, and parsed again', async () => {
      await ask(
        parse('s1', 'select id from customers'),
        parse('s2', 'select ssn from customers'),
        sync(),
      );
      await ask(describeStatement('s2'), describeStatement('s1'), sync());
      const both = await ask(
        bind('s1', 'p1'),
        execute('p1'),
        bind('s2', 'p2'),
        execute('p2'),
        sync(),
      );
      assert.equal(typesOf(both), '2DDC2DDCZ');
      assertNoLeak(both, 'batch');
      const again = await ask(
        closeStatement('s1'),
        parse('s1', 'select api_key from customers'),
        bind('s1'),
        execute(),
        sync(),
      );
      assertNoLeak(again, 'parsed again');
      await ask(query('begin'));
      const part = await ask(bind('s2', 'held'), execute('held', 1), sync());
      const rest = await ask(execute('held', 1), sync());
      assert.equal(typesOf(part), '2DsZ');
      assert.equal(typesOf(rest), 'DsZ');
      assertNoLeak([...part, ...rest], 'suspended portal');
      await ask(query('rollback'));
    });

    it('G23 holds for SQL-level cursors and prepared statements, and for several results of a text', async () => {
      await ask(query('begin; declare c cursor for select ssn, ssn || $$x$$ from customers'));
      assertNoLeak(await ask(query('fetch 1 from c')), 'fetch');
      assertNoLeak(await ask(execute('c'), sync()), 'execute of a cursor');
      await ask(query('rollback; prepare q as select ssn, upper(api_key) from customers'));
      assertNoLeak(await ask(query('execute q')), 'execute');
      const texts = await ask(
        query('select name from customers; select ssn from customers; select id from customers'),
      );
      assertNoLeak(texts, 'several');
      assert.equal(typesOf(texts), 'TDDCTDDCTDDCZ');
    });

    it('G24 keeps binary rows in step', async () => {
      const driver = await drive();
      const { rows } = await driver.query({
        text: 'select id, ssn, email, api_key, born, seen, card, notes, name from customers order by id',
        binary: true,
      } as pg.QueryConfig);
      assert.equal(rows.length, 2);
      assert.equal(rows[0].ssn, '*******8726');
      assert.equal(rows[0].name, 'Ada');
      assert.equal(rows[1].name, 'Grace');
      await driver.end();
    });

    it('masks views over classified tables whole', async () => {
      const messages = await ask(query('select id, label, number from people'));
      assertNoLeak(messages, 'people');
      assert.ok(!Buffer.concat(messages.map(({ body }) => body)).includes('8726'));
    });

    it('G25 refuses a row that is too long to be masked, and shows none of it', async () => {
      const messages = await ask(query("select ssn, repeat('x', 40000000) from customers"));
      assert.equal(
        messages.find(({ type }) => type === 'D'),
        undefined,
      );
      assertNoLeak(messages, 'long row');
    });

    it('G26 masks a count that depends on a masked value', async () => {
      const messages = await ask(query("select count(nullif(left(ssn, 1), '5')) from customers"));
      assert.equal(messages.find(({ type }) => type === 'D')?.body.toString('hex'), '0001ffffffff');
    });

    it('records which columns were masked', async () => {
      await ask(query('select ssn, name from customers'));
      const results =
        world.sessions.at(-1)?.events.filter((event) => event.case === 'result') ?? [];
      const last = results.at(-1);
      assert.deepEqual(last?.case === 'result' ? last.value.maskedColumns : [], [
        'public.customers.ssn',
      ]);
    });
  });

  describe(`detectors before ${postgresTitle(version)}`, function () {
    this.timeout(60_000);
    let world: GatewayEnforced;
    before(async function () {
      requirePostgres(this, version);
      world = await GatewayEnforced.start({
        version,
        sql: SHOP_SQL,
        grant: shopGrant('reporting', {
          select: ['public.orders'],
          statements: ['read', 'write'],
          insert: ['public.orders'],
        }),
        detectors: ['card', 'ssn', 'email', 'api-key'],
        patterns: ['EMP-[0-9]{6}'],
      });
    });
    after(async () => world?.[Symbol.asyncDispose]());

    it('overwrite what they find in rows, and count it', async () => {
      const text = `paid by ${SECRETS.card}, ${SECRETS.ssn}, ${SECRETS.email}, EMP-123456`;
      await world.server.exec(
        `insert into public.orders (customer_id, total, note) values (1, 1, '${text}')`,
      );
      const driver = new pg.Client(world.wire.clientConfig);
      driver.on('error', () => undefined);
      await driver.connect();
      const { rows } = await driver.query('select note from orders where id = 3');
      assert.equal(
        rows[0].note,
        `paid by ${'*'.repeat(16)}, ${'*'.repeat(11)}, ${'*'.repeat(24)}, ${'*'.repeat(10)}`,
      );
      const found = world.sessions
        .at(-1)
        ?.events.flatMap((event) => (event.case === 'finding' ? [event.value] : []));
      assert.deepEqual(
        found?.map(({ kind, name, count }) => [kind, name, count]),
        ['card', 'ssn', 'email', 'own'].map((name) => [FindingKind.MASKED, name, 1n]),
      );
      await driver.end();
    });
  });
}

describe('GatewayEnforcement', function () {
  this.timeout(60_000);
  it('opens no session once the exception has expired', async function () {
    const [version] = POSTGRES_VERSIONS;
    if (version === undefined) return this.skip();
    requirePostgres(this, version);
    await using world = await GatewayEnforced.start({
      version,
      sql: SHOP_SQL,
      grant: READER,
      expiresAt: new Date(Date.now() - 1000),
    });
    await assert.rejects(world.connect(), /28000/);
  });
});
