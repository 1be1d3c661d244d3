/** A Go driver's own tests against a database, straight and through the gateway. */
import { createServer, type Server } from 'node:net';
import { pipeline } from 'node:stream';
import { Closers } from '../../runtime/closers.ts';
import type { WireClient } from '../fixtures/wire-client.ts';
import { runProgram } from '../fixtures/writ-up.ts';

/** What `go test` tells of each test, subtests by their whole name. */
export type Results = ReadonlyMap<string, Verdict>;
type Verdict = 'pass' | 'fail' | 'skip';

const SUITE_MS = 180_000;

/**
 * Runs the tests one after the other. A test that panics ends its program, so what has no verdict then
 * runs again without it.
 * @param program made by `go test -c`, run in `cwd`
 */
export async function runSuite(program: string, place: SuitePlace): Promise<Results> {
  const listed = await runProgram(program, ['-test.list=.'], { cwd: place.cwd });
  let left = listed.stdout.split('\n').filter((name) => /^(Test|Example|Fuzz)/.test(name));
  const results = new Map<string, Verdict>();
  while (left.length > 0) {
    const found = await runTests(program, left, place);
    for (const [name, verdict] of found) results.set(name, verdict);
    const after = left.filter((name) => !results.has(name));
    if (after.length === left.length) break;
    left = after;
  }
  return results;
}

export interface SuitePlace {
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
}

/** Tests at the top by their names, with their subtests. */
export async function runTests(
  program: string,
  names: readonly string[],
  { cwd, env }: SuitePlace,
): Promise<Results> {
  const { stdout } = await runProgram(
    program,
    [
      '-test.v',
      '-test.parallel=1',
      `-test.timeout=${SUITE_MS}ms`,
      `-test.run=^(${names.join('|')})$`,
    ],
    { cwd, env: { ...process.env, ...env }, timeoutMs: SUITE_MS },
  );
  const results = new Map<string, Verdict>();
  for (const [, verdict, name] of stdout.matchAll(/--- (PASS|FAIL|SKIP): (\S+)/g)) {
    if (name !== undefined) results.set(name, verdictOf(verdict));
  }
  return results;
}

function verdictOf(word: string | undefined): Verdict {
  if (word === 'PASS') return 'pass';
  return word === 'SKIP' ? 'skip' : 'fail';
}

/** Tests that pass directly and do not pass through the gateway. */
export function worse(direct: Results, through: Results): string[] {
  return [...direct].flatMap(([name, verdict]) =>
    verdict === 'pass' && through.get(name) !== 'pass' ? [name] : [],
  );
}

export function countsOf(results: Results): Record<Verdict, number> {
  const counts = { pass: 0, fail: 0, skip: 0 };
  for (const verdict of results.values()) counts[verdict] += 1;
  return counts;
}

/** A plain port on 127.0.0.1 whose connections are made to the gateway, as `writ connect` opens one. */
export async function openDoor(
  dial: () => Promise<WireClient>,
): Promise<{ port: number } & AsyncDisposable> {
  const closers = new Closers();
  const door: Server = createServer({ allowHalfOpen: false }, (socket) => {
    socket.on('error', () => undefined);
    socket.pause();
    dial().then(
      (gateway) => {
        pipeline(socket, gateway.socket, () => socket.destroy());
        pipeline(gateway.socket, socket, () => gateway.socket.destroy());
      },
      () => socket.destroy(),
    );
  });
  await new Promise<void>((resolve) => door.listen(0, '127.0.0.1', resolve));
  closers.defer(() => new Promise((resolve) => door.close(() => resolve(undefined))));
  const address = door.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return { port: address.port, [Symbol.asyncDispose]: () => closers[Symbol.asyncDispose]() };
}
