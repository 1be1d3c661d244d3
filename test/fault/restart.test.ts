import assert from 'node:assert/strict';
import type pg from 'pg';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { IdentityService, LockService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { RpcError } from '../../runtime/grpc-client.ts';
import { until, untilRestarted } from '../fixtures/restarts.ts';
import { openSessionOf, untilNoSessionRoles } from '../fixtures/shop-catalog.ts';
import { makeWorkload, readingWorkload } from '../fixtures/workload.ts';
import { type RunningUp, startUp } from '../fixtures/writ-up.ts';

const never = new AbortController().signal;
const PROMISED_BACK_MS = 10_000;
const PROMISED_END_MS = 1000;

describe('a process that is killed under writ up', () => {
  let up: RunningUp;

  before(async function () {
    this.timeout(90_000);
    up = await startUp();
  });
  after(async function () {
    this.timeout(30_000);
    await up[Symbol.asyncDispose]();
  });

  function kill(name: 'server' | 'agent'): number {
    const pid = up.json.pids[name];
    process.kill(pid, 'SIGKILL');
    return pid;
  }

  it('the server: sessions live on, new ones open within 10 s, and a revocation still ends old ones within a second', async () => {
    await using workload = await readingWorkload(up, 'outlives');
    const busy = await workload.connect();
    const idle = await workload.connect();
    const idleEnded = endOf(idle);
    const { spiffeId } = await openSessionOf(up, workload.spiffeId);
    const asleep = busy.query('select 1 as one, pg_sleep(3)');
    const killedMs = systemClock.monotonicMs();
    const killed = kill('server');
    assert.deepEqual((await idle.query('select 2 as two')).rows, [{ two: 2 }]);
    const fresh = await untilConnected(() => workload.connect(), PROMISED_BACK_MS);
    const back = systemClock.monotonicMs() - killedMs;
    assert.ok(back <= PROMISED_BACK_MS, `a new session after ${Math.round(back)} ms`);
    await fresh.end();
    await untilRestarted(up, 'server', killed);
    assert.equal((await asleep).rows[0].one, 1);

    const target = { target: { case: 'spiffeId', value: spiffeId } } as const;
    const lockedMs = systemClock.monotonicMs();
    await up.admin(LockService).createLock({ target, reason: 'test' }, { signal: never });
    const told = await idleEnded;
    const took = systemClock.monotonicMs() - lockedMs;
    assert.equal(told, '57P01');
    assert.ok(took <= PROMISED_END_MS, `ended after ${Math.round(took)} ms`);
    await untilNoSessionRoles(up, 2000);
  }).timeout(60_000);

  it('the server: a revocation made the moment it answers again ends an old session within a second of it', async () => {
    await using workload = await readingWorkload(up, 'revoked-early');
    const ended = endOf(await workload.connect());
    const { id: sessionId } = await openSessionOf(up, workload.spiffeId);
    kill('server');
    const target = { target: { case: 'spiffeId', value: workload.spiffeId } } as const;
    let answeredMs = 0;
    await until(
      async () => {
        try {
          await up.admin(LockService).createLock({ target, reason: sessionId }, { signal: never });
          answeredMs = systemClock.monotonicMs();
          return true;
        } catch (error) {
          if (error instanceof RpcError && error.status === 'UNAVAILABLE') return false;
          throw error;
        }
      },
      PROMISED_BACK_MS,
      'the server takes a lock',
    );
    assert.equal(await ended, '57P01');
    const took = systemClock.monotonicMs() - answeredMs;
    assert.ok(took <= PROMISED_END_MS, `ended after ${Math.round(took)} ms`);
  }).timeout(60_000);

  it('the agent: a source of SVIDs goes on by itself, and gets what is new', async () => {
    await using workload = await readingWorkload(up, 'keeps-its-source');
    const client = await workload.connect();
    const before = workload.source.svid.value;
    const killed = kill('agent');
    const session = await client.query('select 1 as one');
    assert.deepEqual(session.rows, [{ one: 1 }]);
    await (await workload.connect()).end();
    await untilRestarted(up, 'agent', killed);
    await until(
      () => workload.source.svid.value.serial !== before.serial,
      PROMISED_BACK_MS,
      'the source has an SVID of the new agent',
    );
    assert.equal(String(workload.source.svid.value.id), workload.spiffeId);
    await (await workload.connect()).end();
    assert.deepEqual((await client.query('select 2 as two')).rows, [{ two: 2 }]);
    await client.end();
    await using later = await makeWorkload(up, 'comes-later');
    assert.equal(String(later.source.svid.value.id), later.spiffeId);
  }).timeout(60_000);

  it('the server, while 200 entries are made: each that was acknowledged is whole, and no other is half there', async () => {
    const { trust_domain: trustDomain, agent } = up.json;
    const parentId = { trustDomain, path: agent.id.slice(`spiffe://${trustDomain}`.length) };
    const acknowledged = new Map<string, string>();
    let pid = 0;
    const create = async (number: number) => {
      const path = `/crash/${number}`;
      const selectors = [{ type: 'unix', value: `uid:${50_000 + number}` }];
      const entry = { spiffeId: { trustDomain, path }, parentId, selectors };
      const { results } = await up
        .admin(Entry)
        .batchCreateEntry({ entries: [entry] }, { signal: never });
      const made = results[0]?.entry;
      assert.ok(made !== undefined, results[0]?.status?.message);
      acknowledged.set(path, made.id);
      if (acknowledged.size === 60) pid = kill('server');
    };
    // Few at a time, so that some are on their way when it dies and some are not asked for yet.
    const numbers = Array.from({ length: 200 }, (_, number) => number);
    const work = Array.from({ length: 10 }, async () => {
      for (let next = numbers.shift(); next !== undefined; next = numbers.shift()) {
        await create(next);
      }
    });
    const outcomes = await Promise.allSettled(work);
    assert.ok(acknowledged.size >= 60 && acknowledged.size < 200, `${acknowledged.size} made`);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') assert.ok(outcome.reason instanceof RpcError);
    }
    await untilRestarted(up, 'server', pid);

    const entries = new Map<string, string>();
    const listed = await up.admin(Entry).listEntries({ pageSize: 1000 }, { signal: never });
    for (const { id, spiffeId, selectors } of listed.entries) {
      const path = spiffeId?.path ?? '';
      if (!path.startsWith('/crash/')) continue;
      assert.equal(selectors[0]?.value, `uid:${50_000 + Number(path.slice('/crash/'.length))}`);
      entries.set(path, id);
    }
    for (const [path, id] of acknowledged) assert.equal(entries.get(path), id, path);
    const wholePaths = [...entries.keys()].sort();
    assert.deepEqual(await crashIdentities(up), wholePaths, 'an identity record for each');
    assert.deepEqual(await crashEvents(up), [...entries.values()].sort(), 'one event for each');
    const verified = await up.writ('audit', 'verify');
    assert.equal(verified.status, 0, verified.stderr);
  }).timeout(60_000);
});

/** Paths of the identity records below /crash. */
async function crashIdentities(up: RunningUp): Promise<string[]> {
  const prefix = `spiffe://${up.json.trust_domain}`;
  const { identities } = await up.admin(IdentityService).listIdentities({}, { signal: never });
  return identities
    .map(({ spiffeId }) => spiffeId.slice(prefix.length))
    .filter((path) => path.startsWith('/crash/'))
    .sort();
}

/** Entry ids of the events that tell of an entry below /crash. */
async function crashEvents(up: RunningUp): Promise<string[]> {
  const tail = await up.writ('audit', 'tail', '--last', '10000', '--json');
  return tail.stdout
    .split('\n')
    .filter((line) => line.includes('/crash/') && line.includes('"entry.created"'))
    .map((line) => (JSON.parse(line) as { entry_id: string }).entry_id)
    .sort();
}

/** Resolves at the end of the connection with the SQLSTATE that the client was told. */
function endOf(client: pg.Client): Promise<string | undefined> {
  let code: string | undefined;
  client.on('error', (error) => {
    code ??= (error as pg.DatabaseError).code;
  });
  return new Promise((resolve) => client.on('end', () => resolve(code)));
}

async function untilConnected(
  connect: () => Promise<pg.Client>,
  withinMs: number,
): Promise<pg.Client> {
  const end = systemClock.monotonicMs() + withinMs;
  for (;;) {
    try {
      return await connect();
    } catch (error) {
      if (systemClock.monotonicMs() > end) throw error;
      await systemClock.wait(100, never);
    }
  }
}
