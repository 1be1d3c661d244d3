/** A real gateway of two worker processes, before the demo's PostgreSQL. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import type pg from 'pg';
import { LockService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { RecordedFrameSchema } from '../../proto/gen/writ/gateway/v1/recording_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { readFrames } from '../../runtime/frame-file.ts';
import { descendants, isAlive } from '../fixtures/process-facts.ts';
import {
  asSuperuser,
  catalogOf,
  listSessions,
  untilNoSessionRoles,
} from '../fixtures/shop-catalog.ts';
import { readingWorkload, type Workload } from '../fixtures/workload.ts';
import { type RunningUp, startUp } from '../fixtures/writ-up.ts';

const never = new AbortController().signal;
const WORKERS = 2;
/** After which nothing of a dead worker's sessions may be left. */
const PROMISED_MS = 10_000;
/** Of a revocation. */
const ONE_SECOND_MS = 1000;
const CANCEL_ROUNDS = 8;
const MOST_CONNECTIONS = 40;

interface Connected {
  readonly client: pg.Client;
  readonly ended: Promise<unknown>;
  /** What a client is told to cancel by. */
  readonly key: { readonly processId: number; readonly secret: number };
}

/** Its key tells whose it is (client/cancel.ts). */
const workerOf = ({ key }: Connected): number => (key.secret >>> 0) % WORKERS;

describe('a gateway of two workers', () => {
  let up: RunningUp;
  let workload: Workload;

  before(async function () {
    this.timeout(120_000);
    up = await startUp({ args: ['--no-sample', '--gateway-workers', String(WORKERS)] });
    workload = await readingWorkload(up, 'reader');
  });
  after(async function () {
    this.timeout(30_000);
    await workload[Symbol.asyncDispose]();
    await up[Symbol.asyncDispose]();
  });

  const workers = (): number[] =>
    descendants(up.json.pids.gateway).filter((pid) =>
      readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('worker-main'),
    );

  async function connected(of = workload, user = 'app'): Promise<Connected> {
    const client = await of.connect({ user });
    const ended = new Promise((resolve) => client.once('end', resolve));
    const { processID, secretKey } = client as unknown as { processID: number; secretKey: number };
    return { client, ended, key: { processId: processID, secret: secretKey } };
  }

  /** One session in each worker. */
  async function oneInEach(of = workload, user = 'app'): Promise<Connected[]> {
    const found = new Map<number, Connected>();
    for (let tries = 0; found.size < WORKERS && tries < MOST_CONNECTIONS; tries += 1) {
      const one = await connected(of, user);
      if (found.has(workerOf(one))) await one.client.end();
      else found.set(workerOf(one), one);
    }
    assert.equal(found.size, WORKERS, 'connections go to both workers');
    return [...found].sort(([one], [other]) => one - other).map(([, one]) => one);
  }

  const endAll = (some: readonly Connected[]) =>
    Promise.all(some.map(({ client }) => client.end()));

  async function until(what: string, holds: () => boolean | Promise<boolean>, withinMs: number) {
    const end = systemClock.monotonicMs() + withinMs;
    while (!(await holds())) {
      if (systemClock.monotonicMs() > end) assert.fail(`not after ${withinMs} ms: ${what}`);
      await systemClock.wait(20, never);
    }
  }

  it('serves from both, and its server sees one gateway', async () => {
    assert.equal(workers().length, WORKERS);
    const both = await oneInEach();
    for (const { client } of both) {
      assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
    }
    assert.equal((await listSessions(up, true)).length, WORKERS);
    const metrics = await (await fetch(`${up.json.gateway.health}/metrics`)).text();
    assert.match(metrics, /^writ_gateway_workers 2$/m);
    await until(
      'the sessions of both are in the metrics',
      async () => {
        const text = await (await fetch(`${up.json.gateway.health}/metrics`)).text();
        return /^writ_gateway_sessions_active\{[^}]*\} 2$/m.test(text);
      },
      5000,
    );
    await endAll(both);
  }).timeout(60_000);

  it('P14: cancels whatever worker the request comes to', async () => {
    const both = await oneInEach();
    for (let round = 0; round < CANCEL_ROUNDS; round += 1) {
      const one = both[round % WORKERS];
      assert.ok(one);
      const sleeping = one.client.query('select pg_sleep(60)');
      const refused = assert.rejects(sleeping, { code: '57014' });
      await until('it sleeps', () => isSleeping(one.key.processId), 5000);
      // With the next connections it is as likely the one worker as the other.
      if (round % 3 === 0) await (await connected()).client.end();
      await cancel(up.json.gateway.postgres, one.key);
      await refused;
    }
    await endAll(both);
  }).timeout(60_000);

  async function isSleeping(processId: number): Promise<boolean> {
    const rows = await asSuperuser(
      up,
      `select 1 from pg_stat_activity where pid = ${processId} and query like '%pg_sleep(60)%' and state = 'active'`,
    );
    return rows.length === 1;
  }

  it('counts the day of a grant over both', async () => {
    await using counted = await readingWorkload(up, 'counted', {
      session: { maximum: '1h', per_day: { statements: 6 } },
    });
    const both = await oneInEach(counted);
    for (let n = 0; n < 6; n += 1) await both[n % WORKERS]?.client.query('select 1');
    for (const { client, ended } of both) {
      await assert.rejects(client.query('select 1'), {
        message: /budget is used up: 6 statements/,
      });
      await ended;
    }
  }).timeout(60_000);

  it('ends the sessions of both within a second of a lock', async () => {
    await using locked = await readingWorkload(up, 'locked');
    const both = await oneInEach(locked);
    const begun = systemClock.monotonicMs();
    const target = { target: { case: 'spiffeId', value: locked.spiffeId } } as const;
    await up.admin(LockService).createLock({ target, reason: 'a test' }, { signal: never });
    await Promise.all(both.map(({ ended }) => ended));
    const took = systemClock.monotonicMs() - begun;
    assert.ok(took <= ONE_SECOND_MS, `${took} ms`);
    await assert.rejects(locked.connect());
  }).timeout(60_000);

  it('G11: loses the sessions of a worker that is killed and no other, and starts it again', async () => {
    const both = await oneInEach();
    const [victim = 0] = workers();
    const states = both.map((one) => ({ one, hasEnded: false }));
    for (const state of states) {
      void state.one.ended.then(() => {
        state.hasEnded = true;
      });
    }
    process.kill(victim, 'SIGKILL');
    await until('one of them has lost its client', () => states.some((one) => one.hasEnded), 5000);
    const survivor = states.find((state) => !state.hasEnded)?.one;
    assert.ok(survivor);
    const open = async () => (await listSessions(up, true)).length;
    await until('the server knows', async () => (await open()) === 1, PROMISED_MS);
    await until('its role is gone', async () => (await catalogOf(up)).roles === 1, PROMISED_MS);
    assert.equal((await survivor.client.query('select 1 as one')).rows[0].one, 1);
    const closed = (await listSessions(up, false)).filter(
      ({ closeReason }) => closeReason === "the gateway's worker process has died",
    );
    assert.equal(closed.length, 1);
    const lost = closed[0]?.id ?? '';
    assert.equal(isSealed(lost), false);
    await until('it is audited', () => isAudited('recording.failed', lost), 5000);
    await until('a new worker is there', () => workers().length === WORKERS, PROMISED_MS);
    await endAll(await oneInEach());
    await survivor.client.end();
    await untilNoSessionRoles(up, PROMISED_MS);
  }).timeout(60_000);

  /** Whether the last word of a session's record is its seal. */
  function isSealed(sessionId: string): boolean {
    const file = join(up.state, 'gateway/recordings', sessionId, '0.seg');
    const last = [...readFrames(file)].at(-1) ?? new Uint8Array();
    return fromBinary(RecordedFrameSchema, last).frame.case === 'seal';
  }

  async function isAudited(type: string, sessionId: string): Promise<boolean> {
    const { stdout } = await up.writ('audit', 'tail', '--last', '200', '--json');
    return stdout
      .split('\n')
      .some((line) => line.includes(`"${type}"`) && line.includes(sessionId));
  }

  it('leaves no worker that serves on when its primary is killed', async () => {
    const both = await oneInEach();
    const before = { primary: up.json.pids.gateway, workers: workers() };
    process.kill(before.primary, 'SIGKILL');
    await Promise.all(both.map(({ ended }) => ended));
    await until('no worker lives', () => !before.workers.some(isAlive), 5000);
    await until('it is back', () => up.json.pids.gateway !== before.primary, 20_000);
    await untilNoSessionRoles(up, PROMISED_MS);
    await endAll(await oneInEach());
  }).timeout(90_000);

  it('ends clients and workers in order when it is stopped', async () => {
    const both = await oneInEach();
    const ids = (await listSessions(up, true)).map(({ id }) => id);
    const living = workers();
    const told = both.map(
      ({ client }) =>
        new Promise<string>((resolve) => {
          client.once('error', (error) => resolve(error.message));
        }),
    );
    up.signal('SIGTERM');
    for (const message of await Promise.all(told)) assert.equal(message, 'the gateway is stopping');
    await up.exited;
    assert.ok(!living.some(isAlive));
    assert.deepEqual(ids.map(isSealed), [true, true]);
  }).timeout(60_000);
});

/** Resolves when the gateway has dealt with it, as a client of PostgreSQL waits. */
async function cancel(address: string, { processId, secret }: Connected['key']): Promise<void> {
  const [host = '', port = ''] = address.split(':');
  const socket = connect(Number(port), host);
  socket.on('error', () => undefined);
  const packet = Buffer.alloc(16);
  packet.writeInt32BE(16, 0);
  packet.writeInt32BE(80877102, 4);
  packet.writeInt32BE(processId, 8);
  packet.writeInt32BE(secret, 12);
  socket.write(packet);
  socket.resume();
  await once(socket, 'close');
}
