/**
 * G16: how soon after a revocation the last byte has gone to the last of 20 clients and the last of
 * their processes in the database is gone. The deadlines are promised, so this is the one place of the
 * acceptance tests that asserts durations.
 */
import assert from 'node:assert/strict';
import pg from 'pg';
import {
  LockService,
  ResourceService,
  SessionService,
} from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { printTable } from '../corpus/print-table.ts';
import { POSTGRES_VERSIONS, postgresTitle, requirePostgres } from '../fixtures/postgres.ts';
import { until } from '../fixtures/restarts.ts';
import { listSessions } from '../fixtures/shop-catalog.ts';
import { addUpShop, type UpShop } from '../fixtures/up-shop.ts';
import type { Workload } from '../fixtures/workload.ts';
import { type RunningUp, startUp } from '../fixtures/writ-up.ts';

/** A call of its own, so that no signal gathers listeners. */
const call = () => ({ signal: AbortSignal.timeout(30_000) });
const SESSIONS = 20;
const RIGHTS = { select: ['public.orders'], statements: ['read'] };
/** Minutes of work for one processor; the server looks for a signal at every row. */
const ENDLESS = 'select count(*) from generate_series(1, 100000) a, generate_series(1, 100000) b';

interface Load {
  readonly sql: string | undefined;
  /** Of a process of the session while it is as the load wants it. */
  readonly seen: string;
  readonly promisedMs: number;
}

const LOADS: Readonly<Record<string, Load>> = {
  idle: { sql: undefined, seen: "state = 'idle'", promisedMs: 1000 },
  active: { sql: 'select pg_sleep(120)', seen: "wait_event = 'PgSleep'", promisedMs: 1000 },
  'CPU-bound': { sql: ENDLESS, seen: "state = 'active'", promisedMs: 2000 },
};

interface Revoked {
  readonly up: RunningUp;
  readonly workload: Workload;
  readonly grant: string;
  readonly sessions: readonly string[];
}

const REVOCATIONS: Readonly<Record<string, (what: Revoked) => Promise<unknown>>> = {
  session: ({ up, sessions }) =>
    Promise.all(
      sessions.map((sessionId) =>
        up.admin(SessionService).killSession({ sessionId, reason: 'test' }, call()),
      ),
    ),
  grant: ({ up, grant: name }) =>
    up.admin(ResourceService).deleteResource({ kind: 'Grant', name }, call()),
  'SPIFFE ID': ({ up, workload }) => {
    const target = { target: { case: 'spiffeId', value: workload.spiffeId } } as const;
    return up.admin(LockService).createLock({ target, reason: 'test' }, call());
  },
};

for (const version of POSTGRES_VERSIONS) {
  describe(`G16 ${SESSIONS} sessions on ${postgresTitle(version)}`, () => {
    let up: RunningUp;
    let shop: UpShop;
    let watcher: pg.Client;
    let count = 0;
    const figures: (readonly [string, string, number, number])[] = [];
    before(async function () {
      this.timeout(90_000);
      requirePostgres(this, version);
      up = await startUp();
      shop = await addUpShop(up, { version });
      watcher = new pg.Client({ connectionString: shop.server.superuserUrl });
      await watcher.connect();
    });
    after(async function () {
      this.timeout(30_000);
      printTable(
        `from a revocation to the end of ${SESSIONS} sessions, PostgreSQL ${version}`,
        ['sessions', 'revoked by', 'last client, ms', 'last process, ms'],
        figures,
      );
      await watcher?.end();
      await shop?.[Symbol.asyncDispose]();
      await up?.[Symbol.asyncDispose]();
    });

    async function processes(condition = 'true'): Promise<number> {
      const { rows } = await watcher.query(
        `select count(*)::int as n from pg_stat_activity where backend_type = 'client backend'
         and (usename ~ '^writ_[0-9a-f]{16}$' or usename is null) and ${condition}`,
      );
      return rows[0].n;
    }

    /** Opens and loads the sessions, revokes them, and waits for their ends. */
    async function endOf(kind: string, by: string): Promise<number> {
      const { sql, seen } = LOADS[kind] ?? assert.fail(kind);
      count += 1;
      const name = `revoked-${count}`;
      await using workload = await shop.workload(name, { postgres: RIGHTS });
      const clients = await Promise.all(
        Array.from({ length: SESSIONS }, () => shop.connect(workload)),
      );
      const ended = clients.map(untilTold);
      for (const client of clients) {
        if (sql !== undefined) client.query(sql).catch(() => undefined);
      }
      await until(async () => (await processes(seen)) === SESSIONS, 20_000, kind);
      const open = await listSessions(up, true);
      const sessions = open.filter((one) => one.spiffeId === workload.spiffeId).map(({ id }) => id);
      assert.equal(sessions.length, SESSIONS);

      const started = systemClock.monotonicMs();
      await REVOCATIONS[by]?.({ up, workload, grant: `${name}-grant`, sessions });
      const took = () => Math.round(systemClock.monotonicMs() - started);
      const told = Promise.all(ended).then((codes) => ({ codes, clientsMs: took() }));
      await until(async () => (await processes()) === 0, 20_000, 'no process is left');
      const processesMs = took();
      const { codes, clientsMs } = await told;
      figures.push([kind, by, clientsMs, processesMs]);
      assert.deepEqual(new Set(codes), new Set(['57P01']));
      await until(async () => (await shop.leftovers()).length === 0, 5000, 'nothing is left');
      return Math.max(clientsMs, processesMs);
    }

    for (const [kind, { promisedMs }] of Object.entries(LOADS)) {
      for (const by of Object.keys(REVOCATIONS)) {
        it(`that are ${kind} end within ${promisedMs} ms of a revocation by ${by}`, async () => {
          const first = await endOf(kind, by);
          if (first <= promisedMs) return;
          // The promise is of 99 in 100: after one that is late, two more have to keep it.
          for (let again = 0; again < 2; again += 1) {
            const took = await endOf(kind, by);
            assert.ok(took <= promisedMs, `after ${first} ms, and after ${took} ms`);
          }
        }).timeout(180_000);
      }
    }
  });
}

/** Resolves at the end of the connection with the SQLSTATE that the client was told. */
function untilTold(client: pg.Client): Promise<string | undefined> {
  let code: string | undefined;
  const connection = (client as unknown as { connection: NodeJS.EventEmitter }).connection;
  connection.on('errorMessage', (error: pg.DatabaseError) => {
    code ??= error.code;
  });
  client.on('error', () => undefined);
  return new Promise((resolve) => client.on('end', () => resolve(code)));
}
