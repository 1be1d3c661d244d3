/** The gateway's login in the server's vault and its rotation, with all processes and the database's own word. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { systemClock } from '../../runtime/clock.ts';
import { asSuperuser } from '../fixtures/shop-catalog.ts';
import { applyDocuments, readingWorkload, type Workload } from '../fixtures/workload.ts';
import { type RunningUp, runWrit, startUp } from '../fixtures/writ-up.ts';

const never = new AbortController().signal;
const SECRET = 'shop-login';
const LOGIN = 'writ_gateway';

describe("a backend's login in the vault", () => {
  let up: RunningUp;
  let workload: Workload;
  let password: string;

  before(async function () {
    this.timeout(120_000);
    up = await startUp();
    workload = await readingWorkload(up, 'rotation');
    const file = join(up.state, 'gateway/shop.password');
    password = (await readFile(file, 'utf8')).trimEnd();
    const put = await up.writ('secret', 'put', SECRET, '--file', file);
    assert.deepEqual([put.status, put.stdout], [0, '1\n'], put.stderr);
    await applyDocuments(up, [shopDocument(up)]);
    await setUp(up);
  });
  after(async function () {
    this.timeout(30_000);
    await workload[Symbol.asyncDispose]();
    await up[Symbol.asyncDispose]();
  });

  const versions = async (): Promise<Record<string, string>[]> =>
    JSON.parse((await up.writ('secret', 'list', '--json')).stdout);
  const states = async () => (await versions()).map(({ version, state }) => `${version} ${state}`);
  /** Who of the pair the database lets in. */
  const whoCanLogIn = async () =>
    (
      await asSuperuser<{ rolname: string }>(
        up,
        `select rolname from pg_roles where rolname like '${LOGIN}%' and rolcanlogin`,
      )
    ).map(({ rolname }) => rolname);
  const queryOnce = async () => {
    const client = await workload.connect();
    await client.query('select 1 from orders limit 1').finally(() => client.end());
  };

  const isServed = () =>
    queryOnce().then(
      () => true,
      () => false,
    );

  it('lets clients in, and tells each gateway that fetched it', async () => {
    const events = async () => (await up.writ('audit', 'tail', '--last', '1000', '--json')).stdout;
    // The gateway hears of the new document in its own time.
    while (!(await events()).includes('"secret.fetched"')) await systemClock.wait(100, never);
    await queryOnce();
    const told = await events();
    const fetched = told.split('\n').find((line) => line.includes('"secret.fetched"'));
    assert.match(fetched ?? '', /"secret":"shop-login"/);
    assert.ok(!told.includes(password));
  }).timeout(60_000);

  it('G63 is rotated without a client noticing, and the old password opens nothing', async () => {
    await logIn(up, password);
    const lasting = await workload.connect();
    const stop = new AbortController();
    let times = 0;
    const connecting = (async () => {
      for (; !stop.signal.aborted; times += 1) await queryOnce();
    })();
    const rotated = await up.writ('backend', 'rotate', 'shop', '--json');
    stop.abort();
    await connecting;
    assert.equal(rotated.status, 0, rotated.stderr);
    assert.equal(JSON.parse(rotated.stdout).step, 'done');
    assert.ok(times > 0);
    assert.equal((await lasting.query('select 1 from orders limit 1')).rowCount, 1);
    await lasting.end();
    assert.deepEqual(await states(), ['2 current']);
    assert.deepEqual(await whoCanLogIn(), [`${LOGIN}_b`]);
    await assert.rejects(logIn(up, password), { code: '28P01' });
    await queryOnce();
  }).timeout(120_000);

  it('G64 is rotated to the end although the gateway is killed in the middle', async () => {
    const asked = up.writ('backend', 'rotate', 'shop', '--json');
    await untilBegun(up);
    process.kill(up.json.pids.gateway, 'SIGKILL');
    const { status, stdout, stderr } = await asked;
    assert.equal(status, 0, stderr);
    assert.equal(JSON.parse(stdout).step, 'done');
    assert.deepEqual(await states(), ['3 current']);
    assert.deepEqual(await whoCanLogIn(), [LOGIN]);
    // The rotation may have ended before the kill.
    while (!(await isServed())) await systemClock.wait(100, never);
  }).timeout(120_000);

  it('is not taken from the vault while the backend names it', async () => {
    const { status, stderr } = await up.writ('secret', 'delete', SECRET);
    assert.equal(status, 1);
    assert.match(stderr, /backend shop names this secret/);
    assert.match((await up.writ('audit', 'verify')).stdout, /unbroken/);
  }).timeout(60_000);
});

function shopDocument(up: RunningUp): Record<string, unknown> {
  return {
    kind: 'Backend',
    name: 'shop',
    type: 'postgres',
    environment: 'demo',
    postgres: {
      host: '127.0.0.1',
      port: Number(new URL(up.json.demo.database_url).port),
      database: 'shop',
      layout: 'front',
      login: { user: LOGIN, password_secret: SECRET, rotate_every: '30d' },
      tls: { ca_file: join(up.state, 'postgres-ca.pem'), server_name: 'localhost' },
    },
  };
}

/** `writ backend setup`, run by the administrator. */
async function setUp(up: RunningUp): Promise<void> {
  const url = new URL(up.json.demo.database_url);
  const bare = new URL(url.href);
  bare.password = '';
  const setup = await runWrit(['backend', 'setup', 'shop', '--url', bare.href], {
    WRIT_ADMIN_SOCKET: up.json.server.admin_socket,
    PGPASSWORD: url.password,
  });
  assert.equal(setup.status, 0, setup.stderr);
  const client = new pg.Client({ connectionString: url.href });
  await client.connect();
  await client.query(setup.stdout).finally(() => client.end());
}

/** As the gateway does. */
async function logIn(up: RunningUp, password: string): Promise<void> {
  const ca = await readFile(join(up.state, 'postgres-ca.pem'), 'utf8');
  const client = new pg.Client({
    ...{ host: '127.0.0.1', port: Number(new URL(up.json.demo.database_url).port) },
    ...{ database: 'shop', user: LOGIN, password, ssl: { ca, servername: 'localhost' } },
  });
  await client.connect();
  await client.end();
}

/** Until a gateway has been given a step of a rotation that is not at its end. */
async function untilBegun(up: RunningUp): Promise<void> {
  for (;;) {
    const asked = await up.writ('backend', 'rotate', 'shop', '--status', '--json');
    if (asked.status === 0 && JSON.parse(asked.stdout).version === '3') return;
  }
}
