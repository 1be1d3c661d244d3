/** The parts of `bench postgres` that move much data or hold many sessions. */
import { cpuSeconds, residentMb } from './own-processes.ts';
import { CountingClient } from './postgres-client.ts';
import type { ClientFiles, PostgresWorld, Target } from './postgres-world.ts';

const BULK_ROUNDS = 2;
const SESSIONS_EACH = 90;
const PROMISED_SESSIONS = 5000;
const HUGE_MB = 256;
/** Length of a value of `big.g`. */
const VALUE_BYTES = 60;

interface Drain {
  readonly bytes: number;
  readonly seconds: number;
  readonly cpuSeconds: number | undefined;
}

/** All rows of a large table, by COPY and by a SELECT, to a client that only counts bytes. */
export async function bulk(world: PostgresWorld, targets: readonly Target[]): Promise<string[]> {
  const lines: string[] = [];
  for (const sql of ['copy (select * from big) to stdout', 'select * from big']) {
    const drains = new Map<Target['name'], Drain>();
    for (const target of targets) drains.set(target.name, await fastestDrain(target, world, sql));
    const direct = drains.get('direct');
    lines.push(`${sql}: ${((direct?.bytes ?? 0) / 1e6).toFixed(0)} MB, best of ${BULK_ROUNDS}`);
    for (const [name, one] of drains) lines.push(drainLine(name, one, direct?.seconds));
  }
  return lines;
}

function drainLine(name: string, { seconds, cpuSeconds: cpu }: Drain, direct = Number.NaN): string {
  const used = cpu === undefined ? '' : `  ${cpu.toFixed(2)} s of CPU`;
  const share = (direct / seconds).toFixed(2);
  return `  ${name.padEnd(10)}${seconds.toFixed(2).padStart(7)} s  ${share} of direct${used}`;
}

async function fastestDrain(
  target: Target,
  { files }: Pick<PostgresWorld, 'files'>,
  sql: string,
): Promise<Drain> {
  let best: Drain | undefined;
  for (let round = 0; round < BULK_ROUNDS; round += 1) {
    const now = await drain(target, files, sql);
    if (best === undefined || now.seconds < best.seconds) best = now;
  }
  if (best === undefined) throw new Error('no round');
  return best;
}

async function drain(target: Target, files: ClientFiles, sql: string): Promise<Drain> {
  using client = await CountingClient.open(target, files);
  const cpu = target.pid === undefined ? 0 : cpuSeconds(target.pid);
  const started = performance.now();
  const bytes = await client.query(sql);
  const seconds = (performance.now() - started) / 1000;
  const used = target.pid === undefined ? undefined : cpuSeconds(target.pid) - cpu;
  return { bytes, seconds, cpuSeconds: used };
}

/** What idle sessions hold, and what a row that nobody reads does. */
export async function memory(world: PostgresWorld): Promise<string[]> {
  const clients: CountingClient[] = [];
  const before = residentMb(world.gatewayPid);
  try {
    for (const identity of world.identities) {
      const { target, files } = await world.gatewayAs(identity);
      for (let count = 0; count < SESSIONS_EACH; count += 1) {
        clients.push(await CountingClient.open(target, files));
      }
    }
    const each = (residentMb(world.gatewayPid) - before) / clients.length;
    const promised = before + each * PROMISED_SESSIONS;
    return [
      `${clients.length} idle sessions: ${each.toFixed(2)} MB each on ${before.toFixed(0)} MB; ${PROMISED_SESSIONS} would take ${promised.toFixed(0)} MB`,
      await unreadRow(world),
    ];
  } finally {
    for (const client of clients) client[Symbol.dispose]();
  }
}

async function unreadRow(world: PostgresWorld): Promise<string> {
  const [identity] = world.identities;
  if (identity === undefined) return '';
  const { target, files } = await world.gatewayAs(identity);
  using client = await CountingClient.open(target, files);
  const before = residentMb(world.gatewayPid);
  let most = before;
  const answer = client.query(
    `select repeat(g, ${Math.floor((HUGE_MB * 1024 * 1024) / VALUE_BYTES)}) from big limit 1`,
  );
  client.socket.pause();
  for (let look = 0; look < 20; look += 1) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    most = Math.max(most, residentMb(world.gatewayPid));
  }
  client.socket.resume();
  const bytes = await answer;
  return `a row of ${(bytes / 1e6).toFixed(0)} MB that nobody reads for 2 s: ${(most - before).toFixed(0)} MB more`;
}
