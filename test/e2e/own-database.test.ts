import assert from 'node:assert/strict';
import { join } from 'node:path';
import pg from 'pg';
import { asSuperuser } from '../fixtures/shop-catalog.ts';
import {
  applyDocuments,
  grantDocument,
  makeWorkload,
  readingWorkload,
} from '../fixtures/workload.ts';
import { type RunningUp, runWrit, startUp } from '../fixtures/writ-up.ts';

const ROWS = `
create table people (id int primary key, ssn text not null, born date not null);
insert into people values (1, '536-22-8726', '1980-05-17');`;

const APP = `
create table people (id int generated always as identity primary key, name text, email text, ssn text, salary int);
create table orders (id int primary key, total int, status text);
create function twice(integer) returns integer language sql as 'select 2 * $1';
insert into people (name, email, ssn, salary) values ('Ada', 'ada@example.org', '536-22-8726', 56789), ('Bo', 'bo@example.org', '1', 1);
insert into orders values (1, 10, 'new');`;

describe("a database of one's own", () => {
  let up: RunningUp;

  before(async function () {
    this.timeout(90_000);
    up = await startUp();
  });
  after(async function () {
    this.timeout(30_000);
    await up[Symbol.asyncDispose]();
  });

  it('is declared, set up by its administrator, and used', async () => {
    const url = new URL(up.json.demo.database_url);
    await asSuperuser(up, 'create database mine');
    const mine = new URL(url.href);
    mine.pathname = '/mine';
    await run(mine.href, ROWS);
    await using workload = await makeWorkload(up, 'mine-reader');
    await applyDocuments(up, [
      backendDocument(up, url.port),
      { kind: 'ColumnClass', name: 'birthday', mask: 'year' },
      {
        kind: 'Columns',
        name: 'mine-people',
        backend: 'mine',
        tables: { 'public.people': { ssn: 'national-id', born: 'birthday' } },
      },
      grantDocument({
        name: 'mine-reads',
        identity: workload.spiffeId,
        backend: 'mine',
        postgres: { select: ['public.people'], statements: ['read'] },
      }),
    ]);
    await assert.rejects(workload.connect({ database: 'mine' }), /run writ backend setup/);

    const setup = await backendSetup(up, mine, 'mine');
    assert.equal(setup.status, 0, setup.stderr);
    assert.doesNotMatch(setup.stdout, /password '/i);
    await run(mine.href, setup.stdout);
    const client = await workload.connect({ database: 'mine' });
    const { rows } = await client.query('select id, ssn, born::text from people');
    await client.end();
    assert.deepEqual(rows, [{ id: 1, ssn: '*******8726', born: '1980-01-01' }]);

    const undo = await backendSetup(up, mine, 'mine', '--undo');
    await run(mine.href, undo.stdout);
    await assert.rejects(workload.connect({ database: 'mine' }));
    await using other = await readingWorkload(up, 'shop-reader');
    const untouched = await other.connect();
    assert.equal((await untouched.query('select 1 as one from orders limit 1')).rowCount, 1);
    await untouched.end();
  }).timeout(60_000);

  it('P2 P3 answers an application that qualifies names and saves whole rows, in the layout in-place', async () => {
    const url = new URL(up.json.demo.database_url);
    await asSuperuser(up, 'create database app');
    const app = new URL(url.href);
    app.pathname = '/app';
    await run(app.href, APP);
    await using workload = await makeWorkload(up, 'app');
    await applyDocuments(up, [
      backendDocument(up, url.port, { name: 'app', layout: 'in-place' }),
      { kind: 'ColumnClass', name: 'joinable', mask: 'hash' },
      { kind: 'ColumnClass', name: 'pay', mask: 'range', range_size: 1000 },
      {
        kind: 'Columns',
        name: 'app-people',
        backend: 'app',
        tables: { 'public.people': { email: 'email', ssn: 'joinable', salary: 'pay' } },
      },
      grantDocument({
        name: 'app-works',
        identity: workload.spiffeId,
        backend: 'app',
        postgres: {
          select: ['public.people'],
          insert: ['public.people'],
          update: ['public.people'],
          columns: { 'public.orders': { select: ['id', 'status'], update: ['status'] } },
          write: ['public.people.email'],
          execute: ['public.twice(integer)'],
          settings: { 'app.tenant': '7' },
          statements: ['read', 'write'],
        },
      }),
    ]);
    const setup = await backendSetup(up, app, 'app');
    assert.equal(setup.status, 0, setup.stderr);
    assert.match(setup.stderr, /public.people moves to schema writ_base_public/);
    await run(app.href, setup.stdout);
    await run(app.href, setup.stdout);
    const client = await workload.connect({ database: 'app' });
    const { rows } = await client.query('select * from "public"."people"');
    assert.match(rows[0].ssn, /^[0-9a-f]{64}$/);
    assert.deepEqual([rows[0].email, rows[0].salary], ['a***@example.org', 56000]);
    await client.query('update "public"."people" set "name" = $1, "email" = $2 where "id" = $3', [
      'Ada L.',
      rows[0].email,
      rows[0].id,
    ]);
    await client.query(
      `update public.orders set status = current_setting('app.tenant') where id > 0`,
    );
    assert.equal((await client.query('select twice(2) as n')).rows[0].n, 4);
    for (const sql of [
      'select total from public.orders',
      "update public.people set ssn = 'guess'",
      'update public.people set email = (select email from public.people where id = 1) where id = 2',
      "set app.tenant = '8'",
      'select * from writ_base_public.people',
    ]) {
      await assert.rejects(client.query(sql), { code: /^(42501|0A000)$/ }, sql);
    }
    await client.end();
    await run(app.href, 'alter table writ_base_public.people add phone text');
    const again = await backendSetup(up, app, 'app');
    assert.match(again.stderr, /public.people.phone is new .*: it is hidden/);
    await run(app.href, (await backendSetup(up, app, 'app', '--undo')).stdout);
    const direct = new pg.Client({ connectionString: app.href });
    await direct.connect();
    const raw = await direct.query(
      'select name, email, ssn, o.status from public.people p, public.orders o order by p.id',
    );
    await direct.end();
    assert.deepEqual(raw.rows[0], {
      name: 'Ada L.',
      email: 'ada@example.org',
      ssn: '536-22-8726',
      status: '7',
    });
  }).timeout(60_000);

  it('is not asked for with a password on the command line', async () => {
    const outcome = await up.writ('backend', 'setup', 'shop', '--url', up.json.demo.database_url);
    assert.equal(outcome.status, 2);
    assert.match(outcome.stderr, /PGPASSWORD/);
    assert.ok(!outcome.stderr.includes(new URL(up.json.demo.database_url).password));
  });

  it('that is not there is told in one line', async () => {
    const { status, stderr } = await up.writ(
      'backend',
      'setup',
      'nowhere',
      '--url',
      'postgresql://a@b/c',
    );
    assert.equal(status, 1);
    assert.match(stderr, /^writ: .*\n$/);
  });
});

function backendDocument(
  up: RunningUp,
  port: string,
  { name, layout } = { name: 'mine', layout: 'front' },
): Record<string, unknown> {
  return {
    kind: 'Backend',
    name,
    type: 'postgres',
    environment: 'test',
    on_stale: 'strict',
    postgres: {
      host: '127.0.0.1',
      port: Number(port),
      database: name,
      layout,
      login: { user: 'writ_gateway', password_file: join(up.state, 'gateway/shop.password') },
      tls: { ca_file: join(up.state, 'postgres-ca.pem'), server_name: 'localhost' },
    },
  };
}

/** As its administrator: the password comes by the environment. */
function backendSetup(up: RunningUp, url: URL, backend: string, ...flags: readonly string[]) {
  const bare = new URL(url.href);
  bare.password = '';
  return runWrit(['backend', 'setup', backend, '--url', bare.href, ...flags], {
    WRIT_ADMIN_SOCKET: up.json.server.admin_socket,
    PGPASSWORD: url.password,
  });
}

async function run(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(sql).finally(() => client.end());
}
