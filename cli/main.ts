#!/usr/bin/env node
/** `writ`: finds the verb, runs it, turns what it throws into one line and an exit status. */
import { parseArgs } from 'node:util';
import { FAULTS, Fault } from '../runtime/fault.ts';
import { RpcError } from '../runtime/grpc-client.ts';
import { AdminConnection, defaultAdminSocket } from './admin-connection.ts';
import { ExitStatus, textFlag, type Verb } from './verb.ts';
import { verbUsage } from './verb-usage.ts';

const COMMON = {
  help: { type: 'boolean', short: 'h', default: false },
  'admin-socket': { type: 'string' },
} as const;

/** Those that run for months: each is loaded without the code of all the other commands. */
const RUNS: ReadonlyMap<string, () => Promise<Verb>> = new Map([
  ['server', async () => (await import('./verbs/server-run.ts')).serverRun],
  ['agent', async () => (await import('./verbs/agent-run.ts')).agentRun],
  ['gateway', async () => (await import('./verbs/gateway-run.ts')).gatewayRun],
]);

process.exitCode = await main(process.argv.slice(2));

async function main(argv: readonly string[]): Promise<number> {
  const verb = await verbOf(argv);
  if (verb === undefined) return await noVerb(argv);
  try {
    await runVerb(verb, argv.slice(verb.path.length));
    return 0;
  } catch (error) {
    return report(error);
  }
}

async function verbOf(argv: readonly string[]): Promise<Verb | undefined> {
  const [noun = '', word] = argv;
  const run = word === 'run' ? RUNS.get(noun) : undefined;
  if (run !== undefined) return await run();
  const { findVerb } = await import('./usage.ts');
  return findVerb(argv);
}

async function noVerb(argv: readonly string[]): Promise<number> {
  const { usage } = await import('./usage.ts');
  const asked = argv.length === 0 || argv.includes('--help') || argv.includes('-h');
  const words = argv.filter((word) => !word.startsWith('-')).join(' ');
  const text = usage(words);
  if (asked) {
    process.stdout.write(text);
    return argv.length === 0 ? 2 : 0;
  }
  process.stderr.write(`writ: no command ${JSON.stringify(words)}\n${text}`);
  return 2;
}

async function runVerb(verb: Verb, argv: readonly string[]): Promise<void> {
  const { flags, positionals } = parse(verb, argv);
  if (flags.help === true) {
    process.stdout.write(verbUsage(verb));
    return;
  }
  const stop = new AbortController();
  const onSignal = () => stop.abort(new Fault('UNAVAILABLE', 'interrupted'));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, onSignal);
  // As in `writ session list | head -1`: who reads has read enough.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    onSignal();
  });
  await using admin = new AdminConnection(textFlag(flags, 'admin-socket') ?? defaultAdminSocket());
  await verb.run(
    flags,
    {
      signal: stop.signal,
      admin: (service) => admin.client(service),
      out: (line) => process.stdout.write(`${line}\n`),
      err: (line) => process.stderr.write(`${line}\n`),
    },
    positionals,
  );
}

function parse(verb: Verb, argv: readonly string[]) {
  const options = { ...COMMON, ...verb.options };
  try {
    const parsed = parseArgs({ args: [...argv], options, allowPositionals: true, strict: true });
    const least = verb.positionals.filter((name) => !name.startsWith('[')).length;
    const isOpen = verb.positionals.at(-1)?.endsWith('...]') === true;
    const most = isOpen ? Number.POSITIVE_INFINITY : verb.positionals.length;
    const given = parsed.positionals.length;
    if (parsed.values.help !== true && (given < least || given > most)) {
      throw new Error(`takes ${verb.positionals.join(' ') || 'no arguments'}`);
    }
    return { flags: parsed.values, positionals: parsed.positionals };
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    throw new Fault('USAGE', `${verb.path.join(' ')}: ${what}\n${verbUsage(verb).trimEnd()}`);
  }
}

function report(error: unknown): number {
  if (error instanceof ExitStatus) return error.status;
  if (error instanceof RpcError) {
    process.stderr.write(`writ: ${error.message}\n`);
    return error.faultCode === undefined ? 1 : FAULTS[error.faultCode].exit;
  }
  const fault = Fault.from(error);
  process.stderr.write(`writ: ${fault.message}\n`);
  if (fault.code === 'INTERNAL' && fault.cause !== undefined)
    process.stderr.write(`${detail(fault.cause)}\n`);
  return FAULTS[fault.code].exit;
}

function detail(cause: unknown): string {
  return cause instanceof Error ? (cause.stack ?? cause.message) : String(cause);
}
