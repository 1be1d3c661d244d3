/** pgbench -S through the gateway against the same database by direct TLS, in turn. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasProgram } from '../fixtures/programs.ts';
import { applyDocuments, grantDocument, makeWorkload } from '../fixtures/workload.ts';
import { type RunningUp, runProgram } from '../fixtures/writ-up.ts';
import { median } from './percentile.ts';
import type { BenchOptions } from './row.ts';

const SCALE = '5';
const CLIENTS = '8';
const ROUNDS = 3;

interface Target {
  readonly conninfo: string;
  readonly password: string;
}

export async function benchPgbench(
  startedUp: () => Promise<RunningUp>,
  options: BenchOptions,
): Promise<string[]> {
  const up = await startedUp();
  if (!hasProgram('pgbench')) return ['pgbench      skipped: this machine has no pgbench'];
  const url = new URL(up.json.demo.database_url);
  const password = url.password;
  await pgbench({ conninfo: up.json.demo.database_url, password }, '-i', '-s', SCALE, '-q');
  const folder = await mkdtemp(join(tmpdir(), 'writ-bench-'));
  await using workload = await makeWorkload(up, 'bench');
  const postgres = {
    select: ['public.pgbench_accounts', 'public.pgbench_branches'],
    statements: ['read'],
  };
  const { spiffeId: identity } = workload;
  const backend = up.json.demo.backend;
  await applyDocuments(up, [grantDocument({ name: 'bench', identity, backend, postgres })]);
  const { cert, key, ca } = await workload.writeFiles(folder);
  const [host, port] = up.json.gateway.postgres.split(':');
  const gateway = {
    conninfo: `host=${host} port=${port} dbname=${backend} user=bench sslmode=verify-full sslcert=${cert} sslkey=${key} sslrootcert=${ca}`,
    password: '',
  };
  const databaseCa = join(up.state, 'postgres-ca.pem');
  const direct = {
    conninfo: `host=localhost hostaddr=127.0.0.1 port=${url.port} dbname=shop user=postgres sslmode=verify-full sslrootcert=${databaseCa}`,
    password,
  };
  // The gateway's hot paths are compiled by then.
  await selects(gateway, 'simple', options.seconds);
  const lines: string[] = [];
  for (const mode of ['simple', 'prepared']) {
    const ratios: number[] = [];
    const rates: [number, number][] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const through = await selects(gateway, mode, options.seconds);
      const straight = await selects(direct, mode, options.seconds);
      rates.push([through, straight]);
      ratios.push(through / straight);
    }
    const [through, straight] = rates[ROUNDS - 1] ?? [0, 0];
    const all = ratios.map((ratio) => ratio.toFixed(2)).join(' ');
    lines.push(
      `pgbench -S -c ${CLIENTS} ${mode.padEnd(8)}  gateway / direct TLS = ${median(ratios).toFixed(2)}  (${all}; last ${through.toFixed(0)} / ${straight.toFixed(0)} tps)`,
    );
  }
  await rm(folder, { recursive: true, force: true });
  return lines;
}

async function selects(target: Target, mode: string, seconds: number): Promise<number> {
  const args = ['-S', '-n', '-c', CLIENTS, '-j', '2', '-M', mode, '-T', String(seconds)];
  const out = await pgbench(target, ...args);
  const tps = Number(/tps = ([\d.]+)/.exec(out)?.[1]);
  if (!(tps > 0)) throw new Error(`pgbench printed no rate:\n${out}`);
  return tps;
}

async function pgbench({ conninfo, password }: Target, ...args: string[]): Promise<string> {
  const env = { ...process.env, PGPASSWORD: password };
  const outcome = await runProgram('pgbench', [...args, conninfo], { env, timeoutMs: 120_000 });
  if (outcome.status !== 0) throw new Error(`pgbench: ${outcome.stderr}`);
  return outcome.stdout;
}
