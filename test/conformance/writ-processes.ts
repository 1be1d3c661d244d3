/** Writ's own programs for the conformance tests: servers and agents that can be ended and started again. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { ownPort } from './own-port.ts';

const WRIT = join(dirname(fileURLToPath(import.meta.url)), '../../dist/cli/main.js');
const START_MS = 60_000;
const STOP_MS = 20_000;
const ERRORS_KEPT = 4000;

export const TRUST_DOMAIN = 'example.org';

/** One program on a folder of its own; its ports and sockets stay the same when it starts again. */
export class WritProcess implements AsyncDisposable {
  readonly #args: readonly string[];
  readonly #health: string;
  #child: ChildProcess | undefined;
  #errors = '';

  private constructor(args: readonly string[], health: string) {
    this.#args = args;
    this.#health = health;
  }

  /** Starts `writ <program> run` and waits until it is ready. */
  static async start(
    program: 'server' | 'agent',
    folder: string,
    config: object,
  ): Promise<WritProcess> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const health = `127.0.0.1:${await ownPort()}`;
    const file = join(folder, `${program}.yaml`);
    const all = { trust_domain: TRUST_DOMAIN, health, log: { level: 'warn' }, ...config };
    await writeFile(file, stringify(all), { mode: 0o600 });
    const args = [WRIT, program, 'run', '--config', file, '--until-stdin-closes'];
    const started = new WritProcess(args, health);
    await started.start();
    return started;
  }

  /** Starts it again, and waits until it is ready. */
  async start(): Promise<void> {
    const child = spawn(process.execPath, this.#args, { stdio: ['pipe', 'ignore', 'pipe'] });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#errors = `${this.#errors}${text}`.slice(-ERRORS_KEPT);
    });
    this.#child = child;
    const end = performance.now() + START_MS;
    while (performance.now() < end) {
      if (hasEnded(child)) throw new Error(`it ended at its start: ${this.#errors}`);
      const answer = await fetch(`http://${this.#health}/ready`).catch(() => undefined);
      if (answer?.ok === true) return;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await this.end('SIGKILL');
    throw new Error(`not ready after ${START_MS} ms: ${this.#errors}`);
  }

  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#child;
    if (child === undefined || hasEnded(child)) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
    await ended;
    clearTimeout(timer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end('SIGTERM');
  }
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

export interface ServerPlace {
  /** `host:port` of the TLS port. */
  readonly address: string;
  readonly adminSocket: string;
  readonly stateDir: string;
}

export interface WritServer extends ServerPlace {
  readonly process: WritProcess;
}

/** A server on `folder`; rate limits are off unless `config` says otherwise. */
export async function startServer(folder: string, config: object): Promise<WritServer> {
  const address = `127.0.0.1:${await ownPort()}`;
  const stateDir = join(folder, 'state');
  const process = await WritProcess.start('server', folder, {
    ...{ state_dir: stateDir, listen: address },
    rate_limits: { attestation: false, signing: false },
    registration: {
      defaults: {
        ...{ owner: 'ana@example.org', purpose: 'conformance', environment: 'test' },
        ...{ kind: 'service', expires_in: '30d' },
      },
    },
    ...config,
  });
  return { process, address, stateDir, adminSocket: join(stateDir, 'admin.sock') };
}

export interface WritAgent {
  readonly process: WritProcess;
  readonly workloadApi: string;
}

/** An agent that attests to a server with a join string. */
export async function startAgent(
  folder: string,
  server: string,
  joinString: string,
): Promise<WritAgent> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const joinFile = join(folder, 'join');
  await writeFile(joinFile, joinString, { mode: 0o600 });
  const workloadApi = join(folder, 'agent.sock');
  const process = await WritProcess.start('agent', folder, {
    ...{ state_dir: join(folder, 'state'), server, workload_api: workloadApi },
    join_string_file: joinFile,
  });
  return { process, workloadApi };
}

export interface Outcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `writ` as the operator of one server. */
export async function runWrit(server: ServerPlace, args: readonly string[]): Promise<Outcome> {
  const child = spawn(process.execPath, [WRIT, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, WRIT_ADMIN_SOCKET: server.adminSocket },
  });
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      texts[name] += text;
    });
  }
  const [status] = await once(child, 'close');
  return { status: Number(status), ...texts };
}
