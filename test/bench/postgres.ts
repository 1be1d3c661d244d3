/**
 * The PostgreSQL gateway beside a direct connection, pgbouncer and stunnel: the same database, the same
 * client certificate, in turn in one run. Ratios are medians of the rounds.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasProgram } from '../fixtures/programs.ts';
import { type RunningUp, runProgram } from '../fixtures/writ-up.ts';
import { cpuSeconds } from './own-processes.ts';
import { median } from './percentile.ts';
import { bulk, memory } from './postgres-bulk.ts';
import { startPostgresWorld, type Target } from './postgres-world.ts';
import type { BenchOptions } from './row.ts';

/** Of the cells that a promise stands on; of all others two. */
const ROUNDS = 3;
const FEWER_ROUNDS = 2;
/** A process that has just started interprets its code: it is measured when it no longer does. */
const WARM_SECONDS = 8;
const CELL_SECONDS = 2;
const BULK_ROWS = 1_000_000;
const IDENTITIES = 4;

const SQL = `
create table big as select i as a, i * 2 as b, md5(i::text) as c, md5((i + 1)::text) as d,
  i::numeric / 7 as e, now() as f, repeat('x', 60) as g, i % 100 as h, i % 2 = 0 as i,
  repeat('y', 120) as j from generate_series(1, ${BULK_ROWS}) i;
create table base as select i as id, (i % 1000)::numeric / 10 as price, md5(i::text) as name,
  jsonb_build_object('k', i % 500) as doc, 'u' || i || '@example.org' as email
  from generate_series(1, 100000) i;
create index on base (id); create index on base (price);
create index on base (name text_pattern_ops); create index on base ((doc->>'k'));
create table masked (like base including all);
insert into masked select * from base;`;

/** One statement for each kind of predicate, in a script for pgbench. */
const PREDICATES = {
  integer: 'select id, name from TABLE where id = :x;',
  numeric: 'select count(*) from TABLE where price = (:x % 1000)::numeric / 10;',
  like: "select id from TABLE where name like substr(md5(:x::text), 1, 6) || '%';",
  jsonb: "select count(*) from TABLE where doc->>'k' = (:x % 500)::text;",
} as const;

export async function benchPostgres(
  startedUp: () => Promise<RunningUp>,
  options: BenchOptions,
): Promise<string[]> {
  const missing = ['pgbench', 'psql'].find((name) => !hasProgram(name));
  if (missing !== undefined) return [`postgres     skipped: this machine has no ${missing}`];
  await using world = await startPostgresWorld(await startedUp(), {
    sql: SQL,
    scale: '5',
    tables: ['pgbench_accounts', 'pgbench_branches', 'big', 'base', 'masked'].map(
      (name) => `public.${name}`,
    ),
    classified: { 'public.masked': { email: 'email' } },
    identities: IDENTITIES,
  });
  const seconds = Math.min(options.seconds, CELL_SECONDS);
  const plain = await world.reach('plain');
  await warmUp(plain);
  return [
    ...(await statements(plain, 'plain leg', { seconds, clients: 1, rounds: FEWER_ROUNDS })),
    ...(await statements(plain, 'plain leg', { seconds, clients: 8, rounds: ROUNDS })),
    ...(await connects(plain, seconds)),
    ...(await bulk(world, plain)),
    ...(await predicates(plain, seconds)),
    ...(await memory(world)),
    ...(await statements(await world.reach('tls'), 'TLS leg', {
      ...{ seconds, clients: 8, rounds: FEWER_ROUNDS },
    })),
  ];
}

/** Until the gateway's code runs compiled. */
export async function warmUp(targets: readonly Target[]): Promise<void> {
  const gateway = targets.find(({ name }) => name === 'gateway');
  if (gateway === undefined) return;
  for (const mode of ['simple', 'prepared']) {
    await pgbench(gateway, ['-S', '-c', '8', '-M', mode, '-T', String(WARM_SECONDS)]);
  }
}

interface Rate {
  readonly tps: number;
  readonly cpuMicroseconds: number | undefined;
}

async function statements(
  targets: readonly Target[],
  leg: string,
  { seconds, clients, rounds }: { seconds: number; clients: number; rounds: number },
): Promise<string[]> {
  const lines: string[] = [];
  for (const mode of ['simple', 'prepared']) {
    const args = ['-S', '-c', String(clients), '-M', mode, '-T', String(seconds)];
    const rates = await inTurn(targets, rounds, (target) => pgbench(target, args));
    lines.push(`pgbench -S -c ${clients} ${mode}, ${leg}`, ...ratioLines(targets, rates, clients));
  }
  return lines;
}

/** Each transaction on a connection of its own. */
async function connects(targets: readonly Target[], seconds: number): Promise<string[]> {
  const args = ['-S', '-C', '-c', '1', '-T', String(seconds)];
  const rates = await inTurn(targets, FEWER_ROUNDS, (target) => pgbench(target, args));
  return ['pgbench -S -C -c 1: connect and first query', ...ratioLines(targets, rates, 1)];
}

async function inTurn(
  targets: readonly Target[],
  rounds: number,
  measure: (target: Target) => Promise<Rate>,
): Promise<Map<Target['name'], Rate[]>> {
  const rates = new Map<Target['name'], Rate[]>(targets.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round += 1) {
    for (const target of targets) rates.get(target.name)?.push(await measure(target));
  }
  return rates;
}

function ratioLines(
  targets: readonly Target[],
  rates: ReadonlyMap<Target['name'], readonly Rate[]>,
  clients: number,
): string[] {
  const tpsOf = (name: Target['name']) => rates.get(name)?.map(({ tps }) => tps) ?? [];
  const against = (name: Target['name'], peer: Target['name']) =>
    median(tpsOf(name).map((tps, round) => tps / (tpsOf(peer)[round] ?? Number.NaN)));
  const direct = median(tpsOf('direct'));
  return targets.map(({ name }) => {
    const tps = median(tpsOf(name));
    const cpu = (rates.get(name) ?? []).flatMap((rate) => rate.cpuMicroseconds ?? []);
    const added = (clients * 1000) / tps - (clients * 1000) / direct;
    return [
      `  ${name.padEnd(10)}${tps.toFixed(0).padStart(7)} tps`,
      `  ${against(name, 'direct').toFixed(2)} of direct`,
      ...(tpsOf('pgbouncer').length > 0 && name === 'gateway'
        ? [`  ${against(name, 'pgbouncer').toFixed(2)} of pgbouncer`]
        : []),
      ...(cpu.length > 0 ? [`  ${median(cpu).toFixed(0)} us of CPU`] : []),
      ...(clients === 1 && name !== 'direct' ? [`  adds ${added.toFixed(3)} ms`] : []),
    ].join('');
  });
}

export async function pgbench({ conninfo, pid }: Target, args: readonly string[]): Promise<Rate> {
  const before = pid === undefined ? 0 : cpuSeconds(pid);
  const outcome = await runProgram('pgbench', ['-n', ...args, conninfo], { timeoutMs: 120_000 });
  if (outcome.status !== 0) throw new Error(`pgbench: ${outcome.stderr}`);
  const used = pid === undefined ? undefined : cpuSeconds(pid) - before;
  const tps = Number(/tps = ([\d.]+)/.exec(outcome.stdout)?.[1]);
  const count = Number(/actually processed: (\d+)/.exec(outcome.stdout)?.[1]);
  if (!(tps > 0 && count > 0)) throw new Error(`pgbench printed no rate:\n${outcome.stdout}`);
  return { tps, cpuMicroseconds: used === undefined ? undefined : (used * 1e6) / count };
}

/** Through the gateway both: what differs is the masked view alone. */
async function predicates(targets: readonly Target[], seconds: number): Promise<string[]> {
  const gateway = targets.find(({ name }) => name === 'gateway');
  if (gateway === undefined) return [];
  const lines = ['masked view beside the same table without classes, prepared, 1 client'];
  for (const [kind, sql] of Object.entries(PREDICATES)) {
    const rate = async (table: string) => {
      const script = `\\set x random(1, 100000)\n${sql.replace('TABLE', table)}\n`;
      const args = ['-c', '1', '-M', 'prepared', '-T', String(seconds)];
      return (await pgbenchScript(gateway, script, args)).tps;
    };
    const base = await rate('base');
    const masked = await rate('masked');
    lines.push(`  ${kind.padEnd(10)}${(masked / base).toFixed(2)} of base`);
  }
  return lines;
}

async function pgbenchScript(
  target: Target,
  script: string,
  args: readonly string[],
): Promise<Rate> {
  const folder = await mkdtemp(join(tmpdir(), 'writ-bench-'));
  try {
    const file = join(folder, 'script.sql');
    await writeFile(file, script);
    return await pgbench(target, ['-f', file, ...args]);
  } finally {
    await rm(folder, { recursive: true });
  }
}
