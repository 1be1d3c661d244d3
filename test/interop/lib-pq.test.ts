/** Done-when 2 of the PostgreSQL gateway: the tests of lib/pq, a driver of Go, pass through it as directly. */
import assert from 'node:assert/strict';
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Layout } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { printTable } from '../corpus/print-table.ts';
import { startPostgres, type TestPostgres } from '../fixtures/postgres.ts';
import { hasProgram, skipWithout } from '../fixtures/programs.ts';
import { groupRoleOf, shopGrant } from '../fixtures/shop-database.ts';
import { type ShopGateway, startShopGateway } from '../fixtures/shop-gateway.ts';
import { runProgram } from '../fixtures/writ-up.ts';
import { countsOf, openDoor, runSuite, runTests, type SuitePlace, worse } from './driver-suite.ts';

const MODULE = 'github.com/lib/pq@v1.12.3';
/** What the suite expects. */
const DATABASE = 'pqgo';
const PASSWORD = 'of-the-suite';
const FULL = shopGrant('driver-suite', { select: ['public.seed'], statements: ['any'] });
/**
 * Tests of what the gateway is there to do otherwise. Who a client is, its certificate tells: no user is
 * unknown and no password wrong. Unknown and pinned settings are refused at start-up in other words (P11).
 */
const OTHERWISE =
  /^(TestAuth|TestErrorDuringStartup|TestErrorDuringStartupClosesConn|TestRuntimeParameters($|\/#0[04]$))/;
/** Some of its tests give a connection 50 or 100 ms: on a loaded machine they may run again, each by itself. */
const TRIES = 5;
/** Passed directly when this was written; fewer mean that the suite did not run. */
const AT_LEAST = 500;

describe(`the tests of ${MODULE}`, () => {
  let server: TestPostgres;
  let gateway: ShopGateway;
  let folder: string;
  let program: string;

  before(async function () {
    this.timeout(240_000);
    if (!hasProgram('go')) skipWithout(this, 'Go');
    folder = await mkdtemp(join(tmpdir(), 'writ-driver-suite-'));
    program = join(folder, 'suite.test');
    await buildSuite(folder, program);
    await writeFile(join(folder, 'pgpass'), `*:*:*:*:${PASSWORD}\n`, { mode: 0o600 });
    server = await startPostgres({ version: 18 });
    await server.exec(`create database ${DATABASE}`);
    await server.exec('create table public.seed (id int)', DATABASE);
    gateway = await startShopGateway(server, [FULL], {
      database: DATABASE,
      layout: Layout.IN_PLACE,
      columns: [],
    });
    await server.exec(
      `create role pqgo login password '${PASSWORD}';
       grant all on database ${DATABASE} to pqgo, ${groupRoleOf(FULL)};
       grant all on schema public to pqgo, ${groupRoleOf(FULL)};
       grant pg_signal_backend to ${groupRoleOf(FULL)}`,
      DATABASE,
    );
  });
  after(async () => {
    await gateway?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  });

  const placeAt = (port: number): SuitePlace => ({
    cwd: join(folder, 'pq'),
    env: {
      PGHOST: 'localhost',
      PGPORT: String(port),
      PGDATABASE: DATABASE,
      PGUSER: 'pqgo',
      PGPASSFILE: join(folder, 'pgpass'),
      PGSSLMODE: 'disable',
    },
  });

  it('G5 pass through the gateway where they pass directly', async () => {
    const direct = await runSuite(program, placeAt(server.port));
    await using door = await openDoor(() => gateway.dial(FULL));
    const place = placeAt(door.port);
    const through = new Map(await runSuite(program, place));
    const lostNow = () => worse(direct, through).filter((name) => !OTHERWISE.test(name));
    for (let tries = 1; tries < TRIES && lostNow().length > 0; tries += 1) {
      const names = new Set(lostNow().map((name) => name.replace(/\/.*/, '')));
      for (const name of names) {
        for (const [test, verdict] of await runTests(program, [name], place))
          through.set(test, verdict);
      }
    }
    const lost = lostNow();
    const otherwise = worse(direct, through).filter((name) => OTHERWISE.test(name));
    const rows = [countsOf(direct), countsOf(through)].map(({ pass, fail, skip }, index) => [
      index === 0 ? 'directly' : 'through the gateway',
      pass,
      fail,
      skip,
    ]);
    printTable(
      `${MODULE}, its own tests: ${lost.length} worse through the gateway, ${otherwise.length} otherwise by design`,
      ['', 'passed', 'failed', 'skipped'],
      rows,
    );
    assert.deepEqual(lost, []);
    assert.ok(countsOf(direct).pass >= AT_LEAST);
  }).timeout(400_000);
});

/** Go's module cache holds the tests with the code. */
async function buildSuite(folder: string, program: string): Promise<void> {
  const found = await runProgram('go', ['mod', 'download', '-json', MODULE], {
    cwd: folder,
    timeoutMs: 120_000,
  });
  assert.equal(found.status, 0, found.stderr);
  const cwd = join(folder, 'pq');
  await cp(JSON.parse(found.stdout).Dir, cwd, { recursive: true });
  await runProgram('chmod', ['-R', 'u+w', cwd]);
  const built = await runProgram('go', ['test', '-c', '-o', program, '.'], {
    cwd,
    timeoutMs: 120_000,
  });
  assert.equal(built.status, 0, built.stderr);
}
