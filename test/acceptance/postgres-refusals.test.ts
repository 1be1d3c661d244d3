/** G30, G31 and G32: what a gateway with a real grant refuses, how, and what its client can do afterwards. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startupMessage } from '../../gateway/plugins/backend/postgres/wire/frontend-messages.ts';
import {
  cstring,
  int16,
  int32,
  message,
} from '../../gateway/plugins/backend/postgres/wire/message-body.ts';
import { onEachPostgres } from '../fixtures/each-postgres.ts';
import { bind, cells, execute, parse, query, statusOf, sync } from '../fixtures/relay-world.ts';
import { SHOP_SQL, shopGrant } from '../fixtures/shop-database.ts';
import { type ShopGateway, startShopGateway } from '../fixtures/shop-gateway.ts';
import { errorOf, typesOf, type WireClient } from '../fixtures/wire-client.ts';

const CLERK = shopGrant('refused', {
  select: ['public.customers', 'public.orders'],
  insert: ['public.orders'],
  statements: ['read', 'write'],
});
const SQL = `${SHOP_SQL}
  create function public.wipe() returns int language sql as 'delete from public.orders returning 1';`;
const SELECT = 'select id from orders order by id limit 1';
const DENIED = 'delete from orders';
/** Types of messages that a client may send once it is logged in; F is refused as a statement. */
const KNOWN = 'QPBDECHSXFdcf';
const AT_ONCE = 8;

onEachPostgres('a gateway that refuses,', (server) => {
  let gateway: ShopGateway;
  let client: WireClient;
  before(async () => {
    await server().exec(SQL);
    gateway = await startShopGateway(server(), [CLERK]);
  });
  after(() => gateway?.[Symbol.asyncDispose]());
  beforeEach(async () => {
    client = await ready();
    const answer = await client.until('Z');
    assert.equal(answer.at(-1)?.type, 'Z', errorOf(answer)?.message);
  });
  afterEach(async () => {
    client.socket.destroy();
    const [orders] = await server().exec('select count(*)::int as n from orders');
    assert.equal(orders?.n, 2, 'nothing was done');
  });

  async function ready(startup: readonly (readonly [string, string])[] = []): Promise<WireClient> {
    const made = await gateway.dial(CLERK);
    const pairs = [['user', 'somebody'] as const, ['database', 'shop'] as const, ...startup];
    made.send(startupMessage(pairs));
    return made;
  }

  async function ask(...bytes: readonly Uint8Array[]) {
    client.send(...bytes);
    return client.until('Z');
  }

  async function answers(count: number) {
    const all = [];
    for (let left = count; left > 0; left -= 1) all.push(...(await client.until('Z')));
    return all;
  }

  /** The session is as good as before. */
  async function assertUsable(status = 'I'): Promise<void> {
    const answer = await ask(query(status === 'I' ? SELECT : 'rollback'));
    if (status === 'I') assert.deepEqual(cells(answer), ['1']);
    assert.equal(statusOf(answer), 'I');
  }

  const runningSessions = async () =>
    (
      await server().exec(
        `select pid from pg_stat_activity where usename ~ '^writ_[0-9a-f]{16}$' or backend_type = 'walsender'`,
      )
    ).map(({ pid }) => Number(pid));

  describe('G30', () => {
    it('refuses a FunctionCall, and the session lives on', async () => {
      const [wipe] = await server().exec(`select 'public.wipe'::regproc::oid::int as oid`);
      const call = message('F', int32(Number(wipe?.oid)), int16(0), int16(0), int16(0));
      const answer = await ask(call);
      assert.equal(errorOf(answer)?.sqlstate, '42501');
      assert.equal(typesOf(answer), 'EZ');
      await assertUsable();
    });

    for (const value of ['database', 'true', 'on', '1']) {
      it(`refuses to start a replication (${value}), and opens nothing`, async () => {
        const before = await runningSessions();
        using other = await ready([['replication', value]]);
        const answer = await other.rest();
        assert.equal(typesOf(answer), 'E');
        assert.match(errorOf(answer)?.message ?? '', /replication/);
        const opened = (await runningSessions()).filter((pid) => !before.includes(pid));
        assert.deepEqual(opened, []);
      });
    }

    it('refuses COPY of a program and of a file, each way', async () => {
      const canary = join(tmpdir(), `writ-canary-copy-${server().port}`);
      for (const sql of [
        `copy orders to program 'touch ${canary}'`,
        `copy (select 1) to program 'touch ${canary}'`,
        `copy orders from program 'touch ${canary}'`,
        `copy orders to '${canary}'`,
        `copy (select 1) to '${canary}'`,
        "copy orders from '/etc/passwd'",
      ]) {
        assert.equal(errorOf(await ask(query(sql)))?.sqlstate, '42501', sql);
        const extended = await ask(parse('', sql), bind(''), execute(), sync());
        assert.equal(errorOf(extended)?.sqlstate, '42501', sql);
      }
      assert.ok(!existsSync(canary));
      await assertUsable();
    });

    it('ends a session with a message of any unknown type, and hands it to nobody', async () => {
      const unknown = Array.from({ length: 256 }, (_, type) => type).filter(
        (type) => !KNOWN.includes(String.fromCharCode(type)),
      );
      const wrong: string[] = [];
      const work = async () => {
        for (let type = unknown.shift(); type !== undefined; type = unknown.shift()) {
          using other = await ready();
          await other.until('Z');
          const sent = message('Q', cstring(DENIED));
          sent[0] = type;
          other.send(sent);
          const answer = await other.rest();
          const sqlstate = errorOf(answer)?.sqlstate;
          if (typesOf(answer) !== 'E' || sqlstate !== '08P01') wrong.push(`${type}: ${sqlstate}`);
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, work));
      assert.deepEqual(wrong, []);
    }).timeout(120_000);

    for (const [what, bytes] of Object.entries({
      'a password': message('p', cstring('secret')),
      'a StartupMessage': startupMessage([['user', 'postgres']]),
      'a server message': message('Z', Buffer.from('I')),
    })) {
      it(`ends a session with ${what} after the login`, async () => {
        client.send(bytes);
        const answer = await client.rest();
        assert.equal(errorOf(answer)?.sqlstate, '08P01');
      });
    }

    it('takes no statement in the middle of COPY data, and passes over COPY data outside of it', async () => {
      const stray = [
        message('d', Buffer.from('1\t1\t1\tx\n')),
        message('c'),
        message('f', cstring('x')),
      ];
      assert.deepEqual(cells(await ask(...stray, query(SELECT))), ['1']);
      client.send(query('copy orders (customer_id, total) from stdin'));
      assert.equal((await client.until('G')).at(-1)?.type, 'G');
      client.send(message('d', Buffer.from('1\t1\n')), query(SELECT));
      assert.equal(errorOf(await client.rest())?.sqlstate, '08P01');
    });
  });

  describe('G31', () => {
    it('denies what it cannot read or place in a class, in both protocols', async () => {
      for (const sql of [
        'frobnicate the orders',
        'select 1; frobnicate',
        'delete from orders where',
        "select 'unended",
        'select $$unended',
        'select 1 /* unended',
        'selecт 1',
        ')'.repeat(1000),
        `select ${'('.repeat(20_000)}1`,
      ]) {
        const what = sql.slice(0, 40);
        const simple = errorOf(await ask(query(sql)));
        assert.ok(
          ['42501', '42601'].includes(simple?.sqlstate ?? ''),
          `${what}: ${simple?.sqlstate}`,
        );
        assert.match(simple?.message ?? '', /gateway/, what);
        const extended = errorOf(await ask(parse('', sql), bind(''), execute(), sync()));
        assert.match(extended?.message ?? '', /gateway/, what);
        await assertUsable();
      }
    });

    it('classifies nothing that the server says, whatever it reads like', async () => {
      const told = await ask(
        query(`select 'drop table orders; delete from orders' as "truncate orders"`),
      );
      assert.deepEqual(cells(told), ['drop table orders; delete from orders']);
      assert.equal(errorOf(told), undefined);
      const failed = errorOf(await ask(query(`select 'drop table orders'::int`)));
      assert.equal(failed?.sqlstate, '22P02');
      assert.match(failed?.message ?? '', /drop table orders/);
      const asked = await ask(
        parse('', 'select $1::text'),
        bind('', '', ['delete from orders']),
        execute(),
        sync(),
      );
      assert.deepEqual(cells(asked), ['delete from orders']);
      await assertUsable();
    });
  });

  describe('G32', () => {
    it('answers a simple query with 42501, the rule and ReadyForQuery', async () => {
      const answer = await ask(query(DENIED));
      assert.equal(typesOf(answer), 'EZ');
      assert.equal(errorOf(answer)?.severity, 'ERROR');
      assert.equal(errorOf(answer)?.sqlstate, '42501');
      assert.match(errorOf(answer)?.message ?? '', /^refused by the gateway: \S+/);
      assert.equal(statusOf(answer), 'I');
      await assertUsable();
    });

    it('leaves a transaction failed, until it is rolled back', async () => {
      assert.equal(statusOf(await ask(query('begin'))), 'T');
      assert.equal(statusOf(await ask(query(DENIED))), 'E');
      const next = await ask(query(SELECT));
      assert.equal(errorOf(next)?.sqlstate, '25P02');
      assert.equal(statusOf(next), 'E');
      await assertUsable('E');
      await assertUsable();
    });

    it('leaves a transaction failed by the extended protocol too, and lets a savepoint mend it', async () => {
      await ask(query('begin; savepoint s'));
      const denied = await ask(parse('', DENIED), bind(''), execute(), sync());
      assert.equal(typesOf(denied), 'EZ');
      assert.equal(errorOf(denied)?.sqlstate, '42501');
      assert.equal(statusOf(denied), 'E');
      assert.equal(statusOf(await ask(query('rollback to s'))), 'T');
      assert.deepEqual(cells(await ask(query(SELECT))), ['1']);
      assert.equal(statusOf(await ask(query('commit'))), 'I');
    });

    it('skips what is pipelined behind it to the next Sync, and answers what comes after that', async () => {
      client.send(
        parse('', SELECT),
        bind(''),
        execute(),
        parse('', DENIED),
        bind(''),
        execute(),
        parse('', SELECT),
        bind(''),
        execute(),
        sync(),
        parse('', SELECT),
        bind(''),
        execute(),
        sync(),
      );
      const all = await answers(2);
      assert.equal(typesOf(all), '12DCEZ12DCZ');
      assert.equal(errorOf(all)?.sqlstate, '42501');
      await assertUsable();
    });

    it('answers pipelined simple queries one by one', async () => {
      client.send(query(SELECT), query(DENIED), query(SELECT));
      assert.equal(typesOf(await answers(3)), 'TDCZEZTDCZ');
      await assertUsable();
    });

    it('runs nothing of a text of which one statement is denied', async () => {
      const answer = await ask(
        query(`insert into orders (customer_id, total) values (1, 1); ${DENIED}; ${SELECT}`),
      );
      assert.equal(typesOf(answer), 'EZ');
      assert.equal(errorOf(answer)?.sqlstate, '42501');
      await assertUsable();
    });

    it('leaves the connection of a pool usable, as the same connection', async () => {
      await using one = await gateway.connect(CLERK);
      const { rows } = await one.query('select pg_backend_pid() as pid');
      for (let times = 0; times < 20; times += 1) {
        await assert.rejects(one.query(DENIED), { code: '42501' });
        await assert.rejects(one.query({ text: `${DENIED} where id = $1`, values: [times] }), {
          code: '42501',
        });
        await one.query({ name: 'kept', text: SELECT });
      }
      const after = await one.query('select pg_backend_pid() as pid');
      assert.equal(after.rows[0].pid, rows[0].pid);
    });
  });
});
