import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import type pg from 'pg';
import { systemClock } from '../../runtime/clock.ts';
import { catalogOf, listSessions, untilNoSessionRoles } from '../fixtures/shop-catalog.ts';
import { makeWorkload, readingWorkload, type Workload } from '../fixtures/workload.ts';
import { type RunningUp, startUp } from '../fixtures/writ-up.ts';

const never = new AbortController().signal;

describe('a workload with a grant', () => {
  let up: RunningUp;
  let workload: Workload;

  before(async function () {
    this.timeout(90_000);
    up = await startUp();
    workload = await readingWorkload(up, 'reader');
  });
  after(async function () {
    this.timeout(30_000);
    await workload[Symbol.asyncDispose]();
    await up[Symbol.asyncDispose]();
  });

  it('reads masked cells and plain ones', async () => {
    const client = await workload.connect();
    const { rows } = await client.query('select * from customers where id = 1');
    await client.end();
    assert.match(rows[0].ssn, /^[^\d]+\d{4}$|^\*+-?\*+-?\d{4}$/);
    assert.match(rows[0].card_number, /^\D+\d{4}$/);
    assert.match(rows[0].email, /^\w\*+@shop\.example$/);
    assert.equal(rows[0].id, 1);
    assert.match(rows[0].name, /^\w+ \w+$/);
  });

  it('gets 42501 for a statement outside the grant, and the connection lives on', async () => {
    const client = await workload.connect();
    const refused = [
      'delete from orders',
      "update customers set city = 'x'",
      'select ssn from public.customers',
      'create table t (a int)',
      'drop table orders',
    ];
    for (const sql of refused) {
      await assert.rejects(client.query(sql), { code: '42501' }, sql);
      const { rows } = await client.query('select 1 as one');
      assert.deepEqual(rows, [{ one: 1 }]);
    }
    await client.end();
  });

  it('sees a refused statement fail its transaction as a database would', async () => {
    const client = await workload.connect();
    await client.query('begin');
    await assert.rejects(client.query('delete from orders'), { code: '42501' });
    await assert.rejects(client.query('select 1'), { code: '25P02' });
    await client.query('rollback');
    assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
    await client.end();
  });

  it('uses prepared statements with parameters, cursors and COPY (SELECT ...) TO STDOUT', async () => {
    const client = await workload.connect();
    for (const id of [1, 2, 3]) {
      const query = { name: 'by-id', text: 'select id from orders where id = $1', values: [id] };
      assert.deepEqual((await client.query(query)).rows, [{ id }]);
    }
    await client.query('begin');
    await client.query('declare c cursor for select id from orders order by id');
    assert.equal((await client.query('fetch 5 from c')).rows.length, 5);
    await client.query('commit');
    await client.end();
  });

  it('is refused where it has no grant, with 28000 and what to do', async () => {
    await using stranger = await makeWorkload(up, 'stranger');
    await assert.rejects(stranger.connect(), (error: pg.DatabaseError) => {
      assert.equal(error.code, '28000');
      assert.match(error.message, /grant/);
      return true;
    });
  });

  it('is told the names of its grants when it has several and names none (S13)', async () => {
    await using twice = await readingWorkload(up, 'twice');
    const { spiffeId: identity } = twice;
    const { applyDocuments, grantDocument } = await import('../fixtures/workload.ts');
    const postgres = { select: ['public.orders'], statements: ['read'] };
    const { backend } = up.json.demo;
    await applyDocuments(up, [
      grantDocument({ name: 'twice-orders', identity, backend, postgres }),
    ]);
    await assert.rejects(twice.connect(), (error: pg.DatabaseError) => {
      assert.equal(error.code, '28000');
      assert.match(error.message, /twice-orders/);
      assert.match(error.message, /twice-reads/);
      return true;
    });
    const client = await twice.connect({ user: 'twice-orders' });
    await assert.rejects(client.query('select * from customers'), { code: '42501' });
    assert.equal((await client.query('select id from orders limit 1')).rows.length, 1);
    await client.end();
  });

  it('leaves nothing after 20 sessions in a row and 50 at once', async () => {
    const once = async () => {
      const client = await workload.connect();
      await client.query('select count(*) from orders');
      await client.end();
    };
    await once();
    await Promise.all(Array.from({ length: 10 }, once));
    await untilNoSessionRoles(up, 5000);
    await systemClock.wait(5000, never);
    const warm = openFiles(up.json.pids.gateway);
    for (let at = 0; at < 20; at += 1) await once();
    await Promise.all(Array.from({ length: 50 }, once));
    await untilNoSessionRoles(up, 5000);
    assert.deepEqual(await catalogOf(up), { roles: 0, loginRoles: 0, backends: 0 });
    await systemClock.wait(5000, never);
    const left = openFiles(up.json.pids.gateway);
    assert.ok(left <= warm, `${left} descriptors open, ${warm} after the warm-up`);
  }).timeout(90_000);

  it('leaves nothing 10 s after the restart of a gateway that was killed in mid-session', async () => {
    const client = await workload.connect();
    const gone = new Promise<void>((resolve) => client.on('end', () => resolve()));
    const busy = client.query('select pg_sleep(60)').catch(() => undefined);
    await systemClock.wait(200, never);
    const killed = up.json.pids.gateway;
    process.kill(killed, 'SIGKILL');
    await gone;
    await busy;
    const end = systemClock.monotonicMs() + 20_000;
    while (up.json.pids.gateway === killed && systemClock.monotonicMs() < end) {
      await systemClock.wait(50, never);
    }
    assert.notEqual(up.json.pids.gateway, killed, 'the gateway came back');
    await untilNoSessionRoles(up, 10_000);
    const open = await listSessions(up, true);
    assert.deepEqual(open, []);
    const again = await workload.connect();
    assert.equal((await again.query('select 1 as one')).rows[0].one, 1);
    await again.end();
  }).timeout(60_000);
});

function openFiles(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}
