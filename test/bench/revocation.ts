/**
 * From the command that ends a session to the client's end of file, against what the database itself
 * needs for it: pg_terminate_backend on a direct connection. Clients are idle and busy in turn.
 */
import pg from 'pg';
import { SessionService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { listSessions } from '../fixtures/shop-catalog.ts';
import { readingWorkload, type Workload } from '../fixtures/workload.ts';
import type { RunningUp } from '../fixtures/writ-up.ts';
import { percentile, show } from './percentile.ts';
import type { BenchOptions } from './row.ts';

const PROMISED_MS = 1000;
const never = new AbortController().signal;

export async function benchRevocation(
  startedUp: () => Promise<RunningUp>,
  options: BenchOptions,
): Promise<string[]> {
  const up = await startedUp();
  await using workload = await readingWorkload(up, 'revoked');
  const killed: number[] = [];
  const terminated: number[] = [];
  for (let run = 0; run < options.revocations; run += 1) {
    const busy = run % 2 === 1;
    killed.push(await killOne(up, workload, busy));
    terminated.push(await terminateOne(up, busy));
  }
  const ratio = percentile(killed, 0.5) / percentile(terminated, 0.5);
  const p99 = percentile(killed, 0.99);
  const isKept = p99 <= PROMISED_MS;
  if (!isKept) process.exitCode = 1;
  const verdict = isKept ? 'kept' : 'BROKEN';
  return [
    `revocation to EOF, ${killed.length} runs    session kill / pg_terminate_backend = ${ratio.toFixed(2)}  (p50 ${show(killed, 0.5)} / ${show(terminated, 0.5)}, p99 ${show(killed, 0.99)} / ${show(terminated, 0.99)})`,
    `revocation to EOF, promise p99 <= ${PROMISED_MS} ms: ${verdict}, p99 ${p99.toFixed(0)} ms`,
  ];
}

async function killOne(up: RunningUp, workload: Workload, busy: boolean): Promise<number> {
  const client = await workload.connect();
  const sessions = await listSessions(up, true);
  const sessionId = sessions.find((session) => session.spiffeId === workload.spiffeId)?.id ?? '';
  return await untilEnd(client, busy, () =>
    up.admin(SessionService).killSession({ sessionId, reason: 'bench' }, { signal: never }),
  );
}

async function terminateOne(up: RunningUp, busy: boolean): Promise<number> {
  const connectionString = up.json.demo.database_url;
  const client = new pg.Client({ connectionString });
  client.on('error', () => undefined);
  await client.connect();
  const { rows } = await client.query('select pg_backend_pid() as pid');
  const admin = new pg.Client({ connectionString });
  await admin.connect();
  const took = await untilEnd(client, busy, () =>
    admin.query('select pg_terminate_backend($1)', [rows[0].pid]),
  );
  await admin.end();
  return took;
}

async function untilEnd(
  client: pg.Client,
  busy: boolean,
  end: () => Promise<unknown>,
): Promise<number> {
  const gone = new Promise<void>((resolve) => {
    client.on('error', () => undefined);
    client.on('end', () => resolve());
  });
  if (busy) void client.query('select pg_sleep(30)').catch(() => undefined);
  await systemClock.wait(30, never);
  const started = systemClock.monotonicMs();
  await end();
  await gone;
  return systemClock.monotonicMs() - started;
}
