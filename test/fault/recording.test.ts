import assert from 'node:assert/strict';
import { rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { hasProgram, skipWithout } from '../fixtures/programs.ts';
import { until } from '../fixtures/restarts.ts';
import { listSessions, openSessionOf, untilNoSessionRoles } from '../fixtures/shop-catalog.ts';
import { readingWorkload, type Workload } from '../fixtures/workload.ts';
import { type RunningUp, runProgram, startUp } from '../fixtures/writ-up.ts';

/** Far above what the gateway's other files hold by now. */
const LARGEST_FILE_BYTES = 256 * 1024;
const CANNOT = /cannot be recorded/;

describe('a recording that cannot be written', () => {
  let up: RunningUp;
  let workload: Workload;

  before(async function () {
    this.timeout(90_000);
    up = await startUp();
    workload = await readingWorkload(up, 'recorded');
  });
  after(async function () {
    this.timeout(30_000);
    await workload[Symbol.asyncDispose]();
    await up[Symbol.asyncDispose]();
  });

  /** The kernel lets the gateway make no file longer: writes beyond fail, as on a disk that is full. */
  async function limitFiles(bytes: number | 'unlimited'): Promise<void> {
    const pid = String(up.json.pids.gateway);
    const { status, stderr } = await runProgram('prlimit', ['--pid', pid, `--fsize=${bytes}:`]);
    assert.equal(status, 0, stderr);
  }

  async function assertSessionsOpenAgain(gateway: number): Promise<void> {
    const client = await workload.connect();
    assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
    await client.end();
    assert.equal(up.json.pids.gateway, gateway, 'the gateway did not have to be started again');
  }

  it('refuses a new session with a clear message, and leaves neither role nor session', async () => {
    const { gateway } = up.json.pids;
    const recordings = join(up.state, 'gateway/recordings');
    await rename(recordings, `${recordings}.away`);
    await writeFile(recordings, '');
    await assert.rejects(workload.connect(), (error: unknown) => {
      assert.ok(error instanceof pg.DatabaseError, String(error));
      assert.equal(error.severity, 'FATAL');
      assert.match(error.message, CANNOT);
      return true;
    });
    await untilNoSessionRoles(up, 1000);
    await untilNoneIsOpen(up);
    await rm(recordings);
    await rename(`${recordings}.away`, recordings);
    await assertSessionsOpenAgain(gateway);
  });

  it('ends a live session, tells the client why, and audits it', async function () {
    if (!hasProgram('prlimit')) skipWithout(this, 'prlimit');
    const { gateway } = up.json.pids;
    const client = await workload.connect();
    const { id } = await openSessionOf(up, workload.spiffeId);
    const ended = new Promise<void>((resolve) => client.on('end', () => resolve()));
    await limitFiles(LARGEST_FILE_BYTES);
    const told = await fillRecord(client);
    await ended;
    await limitFiles('unlimited');
    assert.match(told.message, CANNOT);
    await untilNoSessionRoles(up, 2000);
    await untilNoneIsOpen(up);
    await until(
      () => isAudited(up, 'recording.failed', id),
      5000,
      'recording.failed is in the audit log',
    );
    await assertSessionsOpenAgain(gateway);
  }).timeout(30_000);

  it('costs the gateway neither its life nor a right decision where no file at all can grow', async function () {
    if (!hasProgram('prlimit')) skipWithout(this, 'prlimit');
    const { gateway } = up.json.pids;
    const client = await workload.connect();
    const ended = new Promise<void>((resolve) => client.on('end', () => resolve()));
    await limitFiles(1);
    await assert.rejects(workload.connect(), pg.DatabaseError);
    await assert.rejects(client.query('select 1'));
    await ended;
    await untilNoSessionRoles(up, 2000);
    await limitFiles('unlimited');
    await untilNoneIsOpen(up);
    await assertSessionsOpenAgain(gateway);
    const again = await workload.connect();
    const { id } = await openSessionOf(up, workload.spiffeId);
    await assert.rejects(again.query('delete from orders'), { code: '42501' });
    await again.end();
    const what = 'what happens now is audited again';
    await until(() => isAudited(up, 'session.statement.denied', id), 5000, what);
  }).timeout(30_000);
});

/** Runs long statements until one fails. */
async function fillRecord(client: pg.Client): Promise<Error> {
  const columns = Array.from({ length: 300 }, (_, at) => `id as a_rather_long_name_${at}`);
  const statement = `select ${columns.join(', ')} from orders limit 1`;
  let failure: Error | undefined;
  for (let count = 0; failure === undefined && count < 100; count += 1) {
    await client.query(statement).catch((error: Error) => {
      failure = error;
    });
  }
  assert.ok(failure !== undefined, 'the record never became too long');
  return failure;
}

async function untilNoneIsOpen(up: RunningUp): Promise<void> {
  const none = async () => (await listSessions(up, true)).length === 0;
  await until(none, 5000, 'no session is open');
}

async function isAudited(up: RunningUp, type: string, sessionId: string): Promise<boolean> {
  const tail = await up.writ('audit', 'tail', '--last', '200', '--json');
  return tail.stdout
    .split('\n')
    .some((line) => line.includes(`"${type}"`) && line.includes(sessionId));
}
