/**
 * A process of `writ up`: in its own process group, told to stop by the end of its stdin, so that
 * it also ends when this process is killed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { Fault } from '../../runtime/fault.ts';

export interface ChildOptions {
  /** What messages call it. */
  readonly name: string;
  readonly file: string;
  readonly args: readonly string[];
  /** Its stdout and stderr go here, 0600. */
  readonly logFile: string;
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly user?: { readonly uid: number; readonly gid: number };
}

/**
 * For a program that does not watch its stdin: a second subshell waits for the end of the pipe and sends
 * the signal, so that no kill of the supervisor leaves the program running.
 */
const WRAPPER = `exec 3<&0
signal=$1
shift
"$@" 3<&- </dev/null &
program=$!
(cat <&3 >/dev/null; kill -"$signal" "$program") &
exec 3<&-
wait "$program"`;

/** @param signal what asks the program to stop, without SIG */
export function endingWithStdin(
  signal: string,
  command: readonly string[],
): Pick<ChildOptions, 'file' | 'args'> {
  return { file: '/bin/sh', args: ['-c', WRAPPER, 'sh', signal, ...command] };
}

const STOP_MS = 8000;
/** How our own processes begin the line that tells why they end. */
const LAST_WORDS = /^writ: (.+)$/;

export class Child {
  readonly name: string;
  readonly #options: ChildOptions;
  readonly #process: ChildProcess;
  /** Where its own part of the log file begins. */
  readonly #logStart: number;
  /** Resolves when it is gone, whatever ended it. */
  readonly gone: Promise<void>;

  constructor(options: ChildOptions) {
    this.name = options.name;
    this.#options = options;
    const log = openSync(options.logFile, 'a', 0o600);
    try {
      this.#logStart = fstatSync(log).size;
      this.#process = spawn(options.file, [...options.args], {
        stdio: ['pipe', log, log],
        detached: true,
        ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
        ...(options.env === undefined ? {} : { env: options.env }),
        ...options.user,
      });
    } finally {
      closeSync(log);
    }
    this.#process.stdin?.on('error', () => undefined);
    this.gone = new Promise((resolve) => {
      this.#process.once('exit', () => resolve());
      this.#process.once('error', () => resolve());
    });
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  get running(): boolean {
    const { exitCode, signalCode, pid } = this.#process;
    return pid !== undefined && exitCode === null && signalCode === null;
  }

  /** Whether it has ended by itself, with status 0. */
  get succeeded(): boolean {
    return this.#process.exitCode === 0;
  }

  /** Asks it to stop, waits, and in the end kills its group. */
  async stop(): Promise<void> {
    this.#process.stdin?.end();
    const timer = setTimeout(() => this.kill(), STOP_MS);
    await this.gone;
    clearTimeout(timer);
  }

  kill(): void {
    if (!this.running) return;
    try {
      process.kill(-this.pid, 'SIGKILL');
    } catch {
      this.#process.kill('SIGKILL');
    }
  }

  /** Why it ended, in one line: its own last message, by `lastWords`, or its status. */
  epitaph(lastWords = LAST_WORDS): Fault {
    const own = readFileSync(this.#options.logFile)
      .subarray(this.#logStart)
      .subarray(-8192)
      .toString('utf8')
      .split('\n')
      .map((line) => lastWords.exec(line)?.[1])
      .findLast((words) => words !== undefined);
    const { exitCode, signalCode } = this.#process;
    const status = signalCode === null ? `status ${exitCode}` : signalCode;
    const text = own ?? `ended with ${status}; see ${this.#options.logFile}`;
    return new Fault('STATE_UNUSABLE', `${this.name}: ${text}`);
  }
}
