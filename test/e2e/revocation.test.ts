import assert from 'node:assert/strict';
import pg from 'pg';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import {
  LockService,
  ResourceService,
  SessionService,
} from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { openSessionOf, untilNoSessionRoles } from '../fixtures/shop-catalog.ts';
import { readingWorkload, type Workload } from '../fixtures/workload.ts';
import { type RunningUp, startUp } from '../fixtures/writ-up.ts';

/** The promise of issue and docs/postgres.md: from the command to the client's end of file. */
const PROMISED_MS = 1000;
const never = new AbortController().signal;

/** What a client is doing when its right ends. */
const ACTIVITIES: Readonly<Record<string, (client: pg.Client) => Promise<unknown>>> = {
  idle: async () => undefined,
  busy: (client) => client.query('select pg_sleep(30)'),
  'in mid-transfer': (client) =>
    new Promise((resolve, reject) => {
      const rows = new pg.Query(
        'select o.*, c.* from orders o, customers c, generate_series(1, 1000)',
      );
      // A listener of its own, so that the client keeps no row.
      rows
        .on('row', () => undefined)
        .on('error', reject)
        .on('end', resolve);
      client.query(rows);
    }),
};

describe('a session ends within a second', () => {
  let up: RunningUp;
  let count = 0;

  before(async function () {
    this.timeout(90_000);
    up = await startUp();
  });
  after(async function () {
    this.timeout(30_000);
    await up[Symbol.asyncDispose]();
  });

  /** Opens a session, starts the activity, ends the right, and looks at what the client saw. */
  async function endBy(activity: string, end: (what: Ended) => Promise<unknown>): Promise<void> {
    count += 1;
    await using workload = await readingWorkload(up, `ends-${count}`);
    const client = await workload.connect();
    const session = await openSessionOf(up, workload.spiffeId);
    const watched = watch(client, ACTIVITIES[activity]);
    await systemClock.wait(100, never);
    const started = systemClock.monotonicMs();
    await end({ workload, sessionId: session.id, grant: session.grant });
    const told = await watched;
    const took = systemClock.monotonicMs() - started;
    assert.ok(took <= PROMISED_MS, `took ${Math.round(took)} ms`);
    assert.equal(told.code, '57P01', told.message);
    await untilNoSessionRoles(up, 2000);
  }

  const ends: Readonly<Record<string, (what: Ended) => Promise<unknown>>> = {
    'writ session kill': ({ sessionId }) =>
      up.admin(SessionService).killSession({ sessionId, reason: 'test' }, { signal: never }),
    'writ lock create': ({ workload }) => {
      const target = { target: { case: 'spiffeId', value: workload.spiffeId } } as const;
      return up.admin(LockService).createLock({ target, reason: 'test' }, { signal: never });
    },
    'the deletion of its entry': ({ workload }) =>
      up.admin(Entry).batchDeleteEntry({ ids: [workload.entryId] }, { signal: never }),
    'the deletion of its grant': ({ grant }) =>
      up.admin(ResourceService).deleteResource({ kind: 'Grant', name: grant }, { signal: never }),
  };
  for (const activity of Object.keys(ACTIVITIES)) {
    for (const [name, end] of Object.entries(ends)) {
      it(`by ${name}, ${activity}`, () => endBy(activity, end)).timeout(20_000);
    }
  }

  it('by the expiry of its grant, and tells the client so', async () => {
    const expiresAt = new Date(Date.now() + 4000);
    await using workload = await readingWorkload(up, 'short-grant', { expiresAt });
    const told = await watch(await workload.connect(), ACTIVITIES.idle);
    const late = Date.now() - expiresAt.getTime();
    assert.ok(late >= -50 && late <= PROMISED_MS, `ended ${late} ms after the grant`);
    assert.equal(told.code, '57P01');
    assert.match(told.message, /expired|reached its end/);
  }).timeout(20_000);

  it('and no new one opens on what was locked', async () => {
    await using workload = await readingWorkload(up, 'locked-out');
    const locked = await up.writ('lock', 'create', '--spiffe-id', workload.spiffeId);
    assert.equal(locked.status, 0, locked.stderr);
    await assert.rejects(workload.connect(), (error: pg.DatabaseError) => {
      assert.equal(error.code, '28000');
      return true;
    });
    const lifted = await up.writ('lock', 'delete', locked.stdout.trim());
    assert.equal(lifted.status, 0, lifted.stderr);
    const client = await workload.connect();
    await client.end();
  }).timeout(20_000);
});

describe('a banned agent', () => {
  it("loses its workloads' sessions within a second (S12)", async () => {
    await using up = await startUp();
    await using workload = await readingWorkload(up, 'banned');
    const watched = watch(await workload.connect(), ACTIVITIES.busy);
    await systemClock.wait(100, never);
    const { trust_domain: trustDomain, agent } = up.json;
    const id = { trustDomain, path: agent.id.slice(`spiffe://${trustDomain}`.length) };
    const started = systemClock.monotonicMs();
    await up.admin(Agent).banAgent({ id }, { signal: never });
    const told = await watched;
    const took = systemClock.monotonicMs() - started;
    assert.ok(took <= PROMISED_MS, `took ${Math.round(took)} ms`);
    assert.equal(told.code, '57P01', told.message);
    await untilNoSessionRoles(up, 2000);
  }).timeout(90_000);
});

describe('a session of a short-lived SVID', () => {
  it('ends with the SVID, within a second', async () => {
    await using up = await startUp({ args: ['--no-sample', '--ttl', '12s'] });
    await using workload = await readingWorkload(up, 'short');
    const { notAfter } = workload.source.svid.value;
    const told = await watch(await workload.connect(), ACTIVITIES.idle);
    const late = Date.now() - notAfter.getTime();
    assert.ok(late >= -1000 && late <= PROMISED_MS, `ended ${late} ms after the SVID`);
    assert.equal(told.code, '57P01');
  }).timeout(90_000);
});

interface Ended {
  readonly workload: Workload;
  readonly sessionId: string;
  readonly grant: string;
}

interface LastWords {
  readonly code: string | undefined;
  readonly message: string;
}

/** Resolves at the end of the client's connection with what it was told: by its query, or without one. */
async function watch(
  client: pg.Client,
  activity: ((client: pg.Client) => Promise<unknown>) | undefined,
): Promise<LastWords> {
  const heard: LastWords[] = [];
  const hear = (error: Error) => {
    const code = error instanceof pg.DatabaseError ? error.code : undefined;
    heard.push({ code, message: error.message });
  };
  client.on('error', hear);
  const ended = new Promise<void>((resolve) => client.on('end', () => resolve()));
  const work = activity?.(client).catch(hear);
  await ended;
  await work;
  const told = heard.find(({ code }) => code !== undefined) ?? heard[0];
  return told ?? { code: undefined, message: 'nothing was said' };
}
