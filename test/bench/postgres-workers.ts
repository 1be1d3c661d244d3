/** The PostgreSQL gateway with one worker beside two: the same load in turn, each before a database of its own. */
import { availableParallelism } from 'node:os';
import { Closers } from '../../runtime/closers.ts';
import { descendants } from '../fixtures/process-facts.ts';
import { hasProgram } from '../fixtures/programs.ts';
import { startUp } from '../fixtures/writ-up.ts';
import { cpuSeconds, residentMb } from './own-processes.ts';
import { median } from './percentile.ts';
import { pgbench, warmUp } from './postgres.ts';
import { startPostgresWorld, type Target } from './postgres-world.ts';
import type { BenchOptions } from './row.ts';

const ROUNDS = 3;
const CLIENTS = 8;
const COUNTS = [1, 2] as const;

export async function benchPostgresWorkers(
  _: unknown,
  { seconds }: BenchOptions,
): Promise<string[]> {
  const missing = ['pgbench', 'psql'].find((name) => !hasProgram(name));
  if (missing !== undefined) return [`postgres-workers skipped: this machine has no ${missing}`];
  await using closers = new Closers();
  const gateways: Target[] = [];
  for (const count of COUNTS) gateways.push(await startGateway(count, closers));
  // Each worker has code of its own to compile, and its share of the load.
  for (const [at, gateway] of gateways.entries()) {
    for (let worker = 0; worker < (COUNTS[at] ?? 1); worker += 1) await warmUp([gateway]);
  }
  const lines = [
    `pgbench -S -c ${CLIENTS} through ${COUNTS.join(' and ')} workers, ${availableParallelism()} cores`,
  ];
  for (const mode of ['simple', 'prepared']) {
    const args = ['-S', '-c', String(CLIENTS), '-M', mode, '-T', String(seconds)];
    lines.push(`  ${mode.padEnd(10)}${compared(await inTurn(gateways, args, seconds))}`);
  }
  const connects = ['-S', '-C', '-c', String(CLIENTS), '-T', String(seconds)];
  lines.push(`  ${'connects'.padEnd(10)}${compared(await inTurn(gateways, connects, seconds))}`);
  const sizes = processesOf(gateways.at(-1)).map((pid) => `${residentMb(pid).toFixed(0)} MB`);
  return [...lines, `  primary and workers after it: ${sizes.join(', ')}`];
}

interface Measured {
  readonly tps: number;
  /** Of all processes of the gateway, for each transaction. */
  readonly cpuMicroseconds: number;
}

/** @returns by gateway what each round measured */
async function inTurn(
  gateways: readonly Target[],
  args: readonly string[],
  seconds: number,
): Promise<Measured[][]> {
  const rounds = gateways.map((): Measured[] => []);
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [at, gateway] of gateways.entries()) {
      const before = cpuOf(gateway);
      const { tps } = await pgbench(gateway, args);
      const cpuMicroseconds = ((cpuOf(gateway) - before) * 1e6) / (tps * seconds);
      rounds[at]?.push({ tps, cpuMicroseconds });
    }
  }
  return rounds;
}

function compared(rounds: readonly (readonly Measured[])[]): string {
  const [one = 0, two = 0] = rounds.map((some) => median(some.map(({ tps }) => tps)));
  const cpu = rounds.map((some) => median(some.map((each) => each.cpuMicroseconds)).toFixed(0));
  const times = (two / one).toFixed(2);
  return `${one.toFixed(0)} and ${two.toFixed(0)} tps, ${times} times; ${cpu.join(' and ')} us of CPU each`;
}

function processesOf(gateway: Target | undefined): number[] {
  const pid = gateway?.pid ?? 0;
  return [pid, ...descendants(pid)];
}

function cpuOf(gateway: Target): number {
  return processesOf(gateway).reduce((sum, pid) => sum + cpuSeconds(pid), 0);
}

async function startGateway(workers: number, closers: Closers): Promise<Target> {
  const up = await startUp({ args: ['--no-sample', '--gateway-workers', String(workers)] });
  closers.defer(async () => await up[Symbol.asyncDispose]());
  const world = await startPostgresWorld(up, {
    ...{ sql: 'select 1', scale: '5', classified: {}, identities: 1 },
    tables: ['public.pgbench_accounts', 'public.pgbench_branches'],
  });
  closers.defer(async () => await world[Symbol.asyncDispose]());
  const gateway = (await world.reach('plain')).find(({ name }) => name === 'gateway');
  if (gateway === undefined) throw new Error('the world has no gateway');
  return gateway;
}
