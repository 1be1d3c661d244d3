import assert from 'node:assert/strict';
import { setImmediate } from 'node:timers/promises';
import { create } from '@bufbuild/protobuf';
import { ColumnsSchema } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { onEachPostgres } from '../../../test/fixtures/each-postgres.ts';
import {
  connectAs,
  OPEN,
  openSession,
  planShop,
  SECRETS,
  SHOP,
  SHOP_SQL,
  setUpShop,
  shopGrant,
} from '../../../test/fixtures/shop-database.ts';

const PLAIN = shopGrant('plain-writer', {
  select: ['public.customers'],
  insert: ['public.customers'],
  update: ['public.customers'],
  delete: ['public.customers'],
  statements: ['read', 'write'],
});
const MASKED = shopGrant('masked-writer', {
  select: ['public.customers'],
  insert: ['public.customers'],
  update: ['public.customers'],
  delete: ['public.customers'],
  writeMasked: ['email', 'ssn', 'born', 'notes'].map((name) => `public.customers.${name}`),
  statements: ['read', 'write'],
});

onEachPostgres('P2: writing through a masked view', (server) => {
  const raw = async (id: number) =>
    (await server().exec(`select * from public.customers where id = ${id}`))[0];

  before(async () => {
    await server().exec(SHOP_SQL);
    await server().exec(`create unique index on public.customers (email);
      alter table public.customers add constraint named check (name <> 'nobody')`);
    await setUpShop(server(), [PLAIN, MASKED]);
  });

  it('P2 writes the columns that are shown as they are, and gives new rows their numbers', async () => {
    for (const grant of [PLAIN, MASKED]) {
      await using session = await openSession(server(), grant);
      const made = await session.query(
        `insert into customers (name) values ('Mary') returning id, name, ssn`,
      );
      const [{ id, ...rest }] = made.rows;
      assert.deepEqual(rest, { name: 'Mary', ssn: null });
      const changed = await session.query(
        `update customers set name = 'Mary S.' where id = $1 returning name`,
        [id],
      );
      assert.deepEqual(changed.rows, [{ name: 'Mary S.' }]);
      assert.equal((await raw(id))?.name, 'Mary S.');
      assert.equal((await session.query('delete from customers where id = $1', [id])).rowCount, 1);
      assert.equal(await raw(id), undefined);
    }
  });

  it('P2 locks rows, and takes an upsert where no masked column is written', async () => {
    for (const grant of [PLAIN, MASKED]) {
      await using session = await openSession(server(), grant);
      await session.query('begin');
      const { rows } = await session.query('select ssn from customers where id = 1 for update');
      assert.deepEqual(rows, [{ ssn: '*******8726' }]);
      await session.query('rollback');
    }
    await using session = await openSession(server(), PLAIN);
    const upsert = `insert into customers (id, name) values (1, 'A.')
      on conflict (id) do update set name = excluded.name returning name, email`;
    assert.deepEqual((await session.query(upsert)).rows, [
      { name: 'A.', email: 'a***@example.com' },
    ]);
    await session.query("update customers set name = 'Ada' where id = 1");
  });

  it('P2 refuses masked columns to a grant that does not name them', async () => {
    await using session = await openSession(server(), PLAIN);
    for (const sql of [
      `update customers set email = 'x@example.org' where id = 1`,
      `update customers set name = 'x', ssn = ssn where id = 1`,
      `insert into customers (name, ssn) values ('x', '1')`,
      `merge into customers c using (values (1)) v (id) on c.id = v.id when matched then update set ssn = ''`,
    ]) {
      await assert.rejects(session.query(sql), { code: /^(42501|0A000|55000|42809)$/ }, sql);
    }
    await assert.rejects(session.query(`update public.customers set name = 'x'`), {
      code: '42501',
    });
    assert.equal((await raw(1))?.ssn, SECRETS.ssn);
  });

  it('P2 writes the masked columns that a grant names, and none that it does not', async () => {
    await using session = await openSession(server(), MASKED);
    const { rows } = await session.query(
      `insert into customers (name, email, ssn, born) values ('Joan', 'joan@example.org', '111-22-3333', '1917-06-24')
        returning id, email, ssn, born::text`,
    );
    const [{ id, ...shown }] = rows;
    assert.deepEqual(shown, { email: 'j***@example.org', ssn: '*******3333', born: '1917-01-01' });
    await session.query(`update customers set email = 'jc@example.org' where id = $1`, [id]);
    await session.query(`update customers set ssn = null where id = $1`, [id]);
    const { email, ssn, born } = (await raw(id)) ?? {};
    assert.deepEqual([email, ssn], ['jc@example.org', null]);
    assert.equal(String(born), String(new Date(1917, 5, 24)));
    for (const column of ['card', 'api_key', 'seen']) {
      await assert.rejects(session.query(`update customers set ${column} = ${column}`), {
        code: '42501',
      });
    }
    await session.query('delete from customers where id = $1', [id]);
  });

  it('P2 destroys nothing when an application saves the whole row that it read', async () => {
    await using session = await openSession(server(), MASKED);
    const before = await raw(1);
    const { rows } = await session.query('select * from customers where id = 1');
    const { name: _, id, ...read } = rows[0];
    await session.query(
      `update customers set name = $1, email = $2, ssn = $3, born = $4, notes = $5 where id = $6`,
      ['Ada L.', read.email, read.ssn, read.born, read.notes, id],
    );
    assert.deepEqual(await raw(1), { ...before, name: 'Ada L.' });
    await session.query(`update customers set email = email, ssn = ssn, name = 'Ada'`);
    assert.deepEqual(await raw(1), before);
    await server().exec(`update public.customers set name = 'Grace' where id = 2`);
  });

  it('P2 refuses a masked value that is not the own of the row', async () => {
    await using session = await openSession(server(), MASKED);
    const before = [await raw(1), await raw(2)];
    for (const sql of [
      `update customers c set email = o.email from customers o where c.id = 1 and o.id = 2`,
      `update customers set ssn = '*******2233' where id = 1`,
      `insert into customers (name, email) select name, email from customers where id = 1`,
      `insert into customers (name, ssn) select name, ssn from customers where id = 2`,
    ]) {
      await assert.rejects(
        session.query(sql),
        { code: '42501', message: /^a masked value cannot be written to column "(email|ssn)"$/ },
        sql,
      );
    }
    assert.deepEqual([await raw(1), await raw(2)], before);
  });

  it('P2 P4 shows no value in an error of a write', async () => {
    for (const grant of [PLAIN, MASKED]) {
      await using session = await openSession(server(), grant);
      for (const [sql, code] of [
        ['update customers set name = null where id = 1', '23502'],
        [`update customers set name = 'nobody' where id = 1`, '23514'],
        [`update customers set id = 1 where id = 2`, '23505'],
        ['delete from customers where id = 1', '23503'],
      ] as const) {
        await assert.rejects(session.query(sql), (error: Error & { code?: string }) => {
          const told = JSON.stringify({ ...error, message: error.message });
          assert.equal(error.code, code, told);
          for (const secret of Object.values(SECRETS)) assert.ok(!told.includes(secret), told);
          return true;
        });
      }
    }
  });

  it('P2 loses no update of two sessions', async () => {
    await server().exec('alter table public.customers add visits int not null default 0');
    const grant = shopGrant('counter', {
      ...{ select: ['public.customers'], update: ['public.customers'] },
      writeMasked: ['public.customers.email'],
      statements: ['read', 'write'],
    });
    const visits = create(ColumnsSchema, {
      name: 'visits',
      backend: SHOP,
      tables: [
        { table: 'public.customers', columns: { visits: 'open', email: 'email', ssn: 'email' } },
      ],
    });
    await setUpShop(server(), [grant], { columns: [visits], classes: [OPEN] });
    {
      await using one = await openSession(server(), grant);
      await using other = await openSession(server(), grant);
      await one.query('begin');
      await one.query('update customers set visits = visits + 1 where id = 1');
      const second = other.query('update customers set visits = visits + 1 where id = 1');
      const rejected = assert.rejects(second, { code: '40001' });
      await using watcher = await connectAs(server(), server());
      while (
        (await watcher.query('select from pg_stat_activity where wait_event_type = $1', ['Lock']))
          .rowCount === 0
      ) {
        await setImmediate();
      }
      await one.query('commit');
      await rejected;
      await other.query('update customers set visits = visits + 1 where id = 1');
      assert.equal((await raw(1))?.visits, 2);
    }
    await server().exec((await planShop(server(), [])).undoSql);
    await server().exec('alter table public.customers drop visits');
  });

  it("P2 runs the table's own triggers, which name things as the application does", async () => {
    await server().exec(`create table public.written (what text);
      create function public.note() returns trigger language plpgsql as
        $$ begin insert into written values (tg_op || ' ' || new.name); return new; end $$;
      create trigger note after insert or update on public.customers for each row execute function public.note();
      grant insert on public.written to public`);
    await setUpShop(server(), [PLAIN, MASKED]);
    for (const grant of [PLAIN, MASKED]) {
      await using session = await openSession(server(), grant);
      await session.query("insert into customers (name) values ('Joan')");
      await session.query("update customers set name = 'J' where name = 'Joan'");
      await session.query("delete from customers where name = 'J'");
    }
    const written = await server().exec('select what from public.written');
    assert.deepEqual(
      written.map(({ what }) => what),
      ['INSERT Joan', 'UPDATE J', 'INSERT Joan', 'UPDATE J'],
    );
    await server().exec('drop function public.note() cascade; drop table public.written');
  });

  it('P2 P6 is not turned by an operator that somebody made for its types', async () => {
    await server().exec(`create table public.stolen (what text); grant insert on public.stolen to public;
      create function public.steal(varchar, varchar) returns boolean language plpgsql as
        $$ begin insert into public.stolen values (current_user || $1); return true; end $$;
      create operator public.= (leftarg = varchar, rightarg = varchar, function = public.steal);
      create table public.keyed (code varchar(10) primary key, email varchar(40));
      insert into public.keyed values ('a', '${SECRETS.email}')`);
    const columns = create(ColumnsSchema, {
      name: 'keyed',
      backend: SHOP,
      tables: [{ table: 'public.keyed', columns: { email: 'email' } }],
    });
    const grant = shopGrant('keyed', {
      ...{ select: ['public.keyed'], insert: ['public.keyed'], update: ['public.keyed'] },
      writeMasked: ['public.keyed.email'],
      statements: ['read', 'write'],
    });
    await setUpShop(server(), [grant], { columns: [columns] });
    {
      await using session = await openSession(server(), grant);
      await session.query(`insert into keyed values ('b', 'b@example.org')`);
      await session
        .query(`update keyed set code = 'c', email = 'c@example.org'`)
        .catch(() => undefined);
      const shown = `update keyed set code = 'x' where lower(code) = 'a' returning email`;
      const { rows } = await session.query(shown);
      assert.deepEqual(rows, [{ email: 'a***@example.com' }]);
    }
    const stolen = await server().exec(`select what from public.stolen where what like 'writ_o_%'`);
    assert.deepEqual(stolen, []);
    await server().exec((await planShop(server(), [])).undoSql);
    await server().exec(
      'drop table public.stolen, public.keyed; drop operator public.= (varchar, varchar); drop function public.steal',
    );
    await setUpShop(server(), [PLAIN, MASKED]);
  });

  it('P2 says where masked columns cannot be written for want of a key', async () => {
    await server().exec(`create table public.keyless (a int, b int not null, c text not null, email text, unique (a));
      create unique index on public.keyless (b) where b > 0; create unique index on public.keyless (lower(c))`);
    const columns = create(ColumnsSchema, {
      name: 'keyless',
      backend: SHOP,
      tables: [{ table: 'public.keyless', columns: { email: 'email' } }],
    });
    const grant = shopGrant('keyless', {
      update: ['public.keyless'],
      writeMasked: ['public.keyless.email'],
      statements: ['write'],
    });
    const { warnings } = await planShop(server(), [grant], { columns: [columns] });
    assert.match(
      warnings.join('\n'),
      /masked columns of public.keyless cannot be written: it has no/,
    );
    await server().exec(`create unique index on public.keyless (c, b) include (email);
      insert into public.keyless (b, c, email) values (1, 'x', 'x@example.org')`);
    const { warnings: then } = await setUpShop(server(), [grant], { columns: [columns] });
    assert.doesNotMatch(then.join('\n'), /keyless/);
    {
      await using session = await openSession(server(), grant);
      await session.query(`update keyless set email = 'y@example.org'`);
    }
    assert.deepEqual(await server().exec('select email from public.keyless'), [
      { email: 'y@example.org' },
    ]);
    await server().exec((await planShop(server(), [])).undoSql);
    await server().exec('drop table public.keyless');
  });
});
