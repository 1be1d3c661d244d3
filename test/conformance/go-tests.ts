/** Runs the tests of a Go package and hands out each one's result as it comes. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import * as v from 'valibot';
import { runProgram } from '../fixtures/writ-up.ts';

const HERE = dirname(fileURLToPath(import.meta.url));
const BUILD_MS = 600_000;
const END_MS = 20_000;
/** Many of the tests wait for most of their time. */
const FLAGS = ['-test.v=test2json', '-test.parallel=8', '-test.timeout=10m'];

/** A line of `go tool test2json`, what we read of it. */
const event = v.object({
  Action: v.string(),
  Test: v.optional(v.string()),
  Output: v.optional(v.string()),
});

export interface GoResult {
  readonly test: string;
  readonly passed: boolean;
  /** What it and its subtests logged. */
  readonly output: string;
}

/** Compiles the tests of `test/conformance/go`; resolves with the program's path. */
export async function buildGoTests(folder: string): Promise<string> {
  const program = join(folder, 'conformance.test');
  const built = await runProgram('go', ['test', '-c', '-o', program, '.'], {
    cwd: join(HERE, 'go'),
    timeoutMs: BUILD_MS,
  });
  if (built.status !== 0) throw new Error(`${built.stdout}${built.stderr}`);
  return program;
}

/** One run of the program. */
export class GoRun implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #converter: ChildProcess;
  readonly #results = new Map<string, GoResult>();
  readonly #output = new Map<string, string>();
  readonly #ended: Promise<void>;
  #over = false;
  #errors = '';
  #wake: () => void = () => undefined;
  #changed: Promise<void>;

  constructor(program: string, env: Readonly<Record<string, string>>) {
    this.#child = spawn(program, FLAGS, {
      cwd: join(HERE, 'go'),
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    this.#converter = spawn('go', ['tool', 'test2json'], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#changed = this.#nextChange();
    this.#ended = this.#read();
  }

  /** The result of one test, as soon as it has ended. */
  async result(test: string): Promise<GoResult> {
    for (;;) {
      const found = this.#results.get(test);
      if (found !== undefined) return found;
      if (this.#over) throw new Error(`${test} has no result. ${this.#errors}`.trim());
      await this.#changed;
    }
  }

  /** The names of all tests that ran. */
  async names(): Promise<string[]> {
    await this.#ended;
    return [...this.#results.keys()];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.kill('SIGTERM');
      const timer = setTimeout(() => this.#child.kill('SIGKILL'), END_MS);
      await once(this.#child, 'exit');
      clearTimeout(timer);
    }
    await this.#ended;
  }

  async #read(): Promise<void> {
    const { stdout, stderr } = this.#child;
    const { stdin, stdout: events } = this.#converter;
    if (stdout === null || stderr === null || stdin === null || events === null)
      throw new Error('a pipe is missing');
    stdout.pipe(stdin);
    stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#errors = `${this.#errors}${text}`.slice(-8000);
    });
    for await (const line of createInterface(events)) this.#take(JSON.parse(line));
    this.#over = true;
    this.#wake();
  }

  #take(line: unknown): void {
    const { Action: action, Test: name, Output: text = '' } = v.parse(event, line);
    const [test = ''] = (name ?? '').split('/');
    if (action === 'output') this.#output.set(test, `${this.#output.get(test) ?? ''}${text}`);
    if (name === undefined || name !== test) return;
    if (!['pass', 'fail', 'skip'].includes(action)) return;
    const output = this.#output.get(test) ?? '';
    this.#results.set(test, { test, passed: action === 'pass', output });
    this.#wake();
  }

  #nextChange(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#changed = this.#nextChange();
        resolve();
      };
    });
  }
}
