import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import type { Clock } from '../../runtime/clock.ts';
import type { Fault } from '../../runtime/fault.ts';

/** What a terminal or a runner sends to whom it takes for the command. */
const FORWARDED = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGUSR2', 'SIGWINCH'] as const;
const GRACE_MS = 5000;
/** What shells say of a command that is not there, or that cannot be run. */
const NOT_FOUND = 127;
const NOT_RUNNABLE = 126;

export interface RunCommandOptions {
  readonly command: readonly string[];
  readonly environment: NodeJS.ProcessEnv;
  readonly clock: Clock;
  /** Resolves when the command has to end. */
  readonly ended: Promise<Fault>;
  /** Tells of the process that runs; it leads a session and a group of its own. */
  onStart(pid: number): void;
}

/**
 * Runs a command on our standard streams, with the signals that we are sent, and takes down what it
 * left behind. Resolves with its exit status, as a shell would tell it.
 * @throws what `ended` resolves with, once the command and its descendants have gone
 */
export async function runCommand(options: RunCommandOptions): Promise<number> {
  const { command, environment, ended, onStart } = options;
  const [file = '', ...args] = command;
  const child = spawn(file, args, { stdio: 'inherit', detached: true, env: environment });
  const exited = exitOf(child);
  if (child.pid === undefined) return await exited;
  const group = -child.pid;
  const forward = (signal: NodeJS.Signals) => send(group, signal);
  for (const signal of FORWARDED) process.on(signal, forward);
  try {
    onStart(child.pid);
    const outcome = await Promise.race([exited, ended]);
    if (typeof outcome === 'number') return outcome;
    await endGently(group, exited, options.clock);
    throw outcome;
  } finally {
    send(group, 'SIGKILL');
    for (const signal of FORWARDED) process.off(signal, forward);
  }
}

async function endGently(group: number, exited: Promise<number>, clock: Clock): Promise<void> {
  const stop = new AbortController();
  send(group, 'SIGTERM');
  const late = clock.wait(GRACE_MS, stop.signal).catch(() => undefined);
  await Promise.race([exited, late]);
  stop.abort();
  send(group, 'SIGKILL');
  await exited;
}

function exitOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve) => {
    child.once('error', (error: NodeJS.ErrnoException) =>
      resolve(error.code === 'ENOENT' ? NOT_FOUND : NOT_RUNNABLE),
    );
    child.once('exit', (code, signal) =>
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])),
    );
  });
}

/** To a whole group, which may have gone. */
function send(group: number, signal: NodeJS.Signals): void {
  try {
    process.kill(group, signal);
  } catch {
    // Nobody is left in it.
  }
}
