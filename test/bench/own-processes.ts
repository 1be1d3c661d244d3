/** A server, an agent and load of the benchmark's own, as processes whose CPU time can be read. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { unusedPort } from '../fixtures/unused-port.ts';
import { runProgram } from '../fixtures/writ-up.ts';

const HERE = dirname(fileURLToPath(import.meta.url));
const WRIT = join(HERE, '../../dist/cli/main.js');
const TICKS_A_SECOND = 100;
const START_MS = 60_000;

/** CPU seconds, user and system, that a process has used. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_A_SECOND;
}

/** Resident memory in MB. */
export function residentMb(pid: number): number {
  const line = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(line?.[1]) / 1024;
}

export interface OwnProcess extends AsyncDisposable {
  readonly pid: number;
}

export interface OwnServer extends OwnProcess {
  /** `host:port` of the TLS port. */
  readonly address: string;
  readonly adminSocket: string;
  /** `host:port` of the health endpoint. */
  readonly health: string;
  readonly readyMs: number;
}

export interface OwnServerOptions {
  /** Kept by the caller; a server that is started on it again finds what the last one left. */
  readonly stateDir: string;
  readonly config?: object;
}

export async function startOwnServer({ stateDir, config }: OwnServerOptions): Promise<OwnServer> {
  const address = `127.0.0.1:${await unusedPort()}`;
  const health = `127.0.0.1:${await unusedPort()}`;
  const started = performance.now();
  const child = await startWrit('server', stateDir, {
    trust_domain: 'example.org',
    ...{ state_dir: stateDir, listen: address, health, log: { level: 'warn' } },
    registration: {
      defaults: {
        ...{ owner: 'bench', purpose: 'bench', environment: 'test', kind: 'service' },
        expires_in: '30d',
      },
    },
    rate_limits: { attestation: false, signing: false },
    ...config,
  });
  await untilReady(health, child);
  const readyMs = performance.now() - started;
  return { ...own(child), address, adminSocket: join(stateDir, 'admin.sock'), health, readyMs };
}

export interface OwnAgent extends OwnProcess {
  readonly workloadApi: string;
  readonly readyMs: number;
}

export async function startOwnAgent(options: {
  readonly stateDir: string;
  readonly server: string;
  readonly joinString: string;
}): Promise<OwnAgent> {
  const { stateDir, server, joinString } = options;
  await mkdir(stateDir, { recursive: true, mode: 0o700 });
  const joinFile = join(stateDir, 'join');
  await writeFile(joinFile, joinString, { mode: 0o600 });
  const health = `127.0.0.1:${await unusedPort()}`;
  const workloadApi = join(stateDir, 'agent.sock');
  const started = performance.now();
  const child = await startWrit('agent', stateDir, {
    trust_domain: 'example.org',
    ...{ state_dir: join(stateDir, 'state'), server, health, workload_api: workloadApi },
    ...{ join_string_file: joinFile, log: { level: 'warn' } },
  });
  await untilReady(health, child);
  return { ...own(child), workloadApi, readyMs: performance.now() - started };
}

/** A short folder for one run. */
export async function ownFolder(): Promise<{ readonly path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'wb-'));
  return {
    path,
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  };
}

async function startWrit(name: string, folder: string, config: object): Promise<ChildProcess> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const file = join(folder, `${name}.yaml`);
  await writeFile(file, stringify(config), { mode: 0o600 });
  const args = [WRIT, name, 'run', '--config', file, '--until-stdin-closes'];
  return spawn(process.execPath, args, { stdio: ['pipe', 'inherit', 'inherit'] });
}

async function untilReady(health: string, child: ChildProcess): Promise<void> {
  const end = performance.now() + START_MS;
  while (performance.now() < end) {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`);
    const answer = await fetch(`http://${health}/ready`).catch(() => undefined);
    if (answer?.ok === true) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  child.kill('SIGKILL');
  throw new Error(`not ready after ${START_MS} ms`);
}

function own(child: ChildProcess): OwnProcess {
  const pid = child.pid;
  if (pid === undefined) throw new Error('it did not start');
  return {
    pid,
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), 20_000);
      await ended;
      clearTimeout(timer);
    },
  };
}

/** Builds the load program; returns its path. */
export async function buildLoad(folder: string): Promise<string> {
  const program = join(folder, 'load');
  const built = await runProgram('go', ['build', '-o', program, '.'], {
    cwd: join(HERE, 'go'),
    timeoutMs: 600_000,
  });
  if (built.status !== 0) throw new Error(built.stderr);
  return program;
}

/** The small Go server that issuing is measured beside. */
export async function startPeer(
  program: string,
): Promise<OwnProcess & { readonly address: string }> {
  const child = spawn(program, ['peer'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [address] = await once(createInterface(child.stdout), 'line');
  return { ...own(child), address: String(address) };
}

export interface Measured {
  readonly operations: number;
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Of the process under load, in the measured stretch alone. */
  readonly cpuSeconds: number;
}

/** One stretch of load on the process `pid`. */
export async function load(
  program: string,
  pid: number,
  mode: string,
  flags: Readonly<Record<string, string | number>>,
): Promise<Measured> {
  const args = Object.entries(flags).flatMap(([name, value]) => [`-${name}`, String(value)]);
  const child = spawn(program, [mode, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const ready = await lines.next();
  if (ready.value !== 'ready') throw new Error(`${mode}: ${errors.trim()}`);
  const before = cpuSeconds(pid);
  child.stdin.end('go\n');
  const answer = await lines.next();
  const used = cpuSeconds(pid) - before;
  if (answer.done === true) throw new Error(`${mode}: ${errors.trim()}`);
  const report = JSON.parse(answer.value);
  return {
    operations: report.operations,
    seconds: report.seconds,
    p50Ms: report.p50_ms,
    p99Ms: report.p99_ms,
    cpuSeconds: used,
  };
}
