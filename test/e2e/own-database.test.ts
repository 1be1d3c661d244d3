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

function backendDocument(up: RunningUp, port: string): Record<string, unknown> {
  return {
    kind: 'Backend',
    name: 'mine',
    type: 'postgres',
    environment: 'test',
    on_stale: 'strict',
    postgres: {
      host: '127.0.0.1',
      port: Number(port),
      database: 'mine',
      layout: 'front',
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
