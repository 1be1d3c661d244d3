/** The acceptance statements on SPIRE's API, judged by a Go program on SPIRE's published protos. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Closers } from '../../runtime/closers.ts';
import { hasProgram, skipWithout } from '../fixtures/programs.ts';
import { type Control, startControl } from './control.ts';
import { buildGoTests, GoRun } from './go-tests.ts';
import { STATEMENTS } from './statements.ts';
import { openStores, STORES } from './stores.ts';

const BUILD_MS = 700_000;
const RUN_MS = 400_000;
const HERE = dirname(fileURLToPath(import.meta.url));
/** Judged by rotation.test.ts. */
const ROTATION = 50;
const STATEMENT = /^TestS(\d\d)[A-Z]/;

describe("SPIRE's API, statement by statement", function () {
  this.timeout(RUN_MS);
  let folder: string;
  let program: string;
  let tests: readonly string[];

  before(async function () {
    this.timeout(BUILD_MS);
    if (!hasProgram('go')) skipWithout(this, 'Go');
    if (!hasProgram('openssl')) skipWithout(this, 'OpenSSL');
    folder = await mkdtemp(join(tmpdir(), 'wc-'));
    program = await buildGoTests(folder);
    const { stdout } = await promisify(execFile)(program, ['-test.list', '.']);
    tests = stdout.split('\n').filter((name) => name.startsWith('Test'));
  });
  after(async () => {
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  });

  it('each Go test belongs to a statement, and each statement has one', () => {
    const numbers = new Set(tests.map((name) => Number(STATEMENT.exec(name)?.[1])));
    assert.deepEqual(
      [...numbers].sort((a, b) => a - b),
      [...STATEMENTS.keys()],
    );
  });

  it('docs/conformance.md names each statement once, as judged or with the reason why not', async () => {
    const page = await readFile(join(HERE, '../../docs/conformance.md'), 'utf8');
    const [judged = '', others = ''] = page.split('\n## Not judged');
    const expected = [...STATEMENTS.keys(), ROTATION].sort((a, b) => a - b);
    assert.deepEqual(numbersIn(judged), expected);
    const all = [...numbersIn(judged), ...numbersIn(others)].sort((a, b) => a - b);
    assert.deepEqual(
      all,
      Array.from({ length: 58 }, (_, index) => index + 1),
    );
  });

  for (const store of STORES) {
    describe(`on ${store}`, () => {
      const closers = new Closers();
      let run: GoRun;

      before(async function () {
        const stores = await openStores(this, store);
        closers.defer(async () => stores[Symbol.asyncDispose]());
        const place = await mkdtemp(join(folder, 'r-'));
        const control: Control = await startControl(place, stores);
        closers.defer(async () => control[Symbol.asyncDispose]());
        run = new GoRun(program, { WRIT_CONTROL: control.socket });
        closers.defer(() => run[Symbol.asyncDispose]());
      });
      after(() => closers[Symbol.asyncDispose]());

      for (const [number, title] of STATEMENTS) {
        it(`statement ${number}: ${title}`, async () => {
          const prefix = `TestS${String(number).padStart(2, '0')}`;
          const own = tests.filter((name) => name.startsWith(prefix));
          assert.notEqual(own.length, 0, `no ${prefix}`);
          const results = await Promise.all(own.map((name) => run.result(name)));
          const failed = results.filter(({ passed }) => !passed);
          if (failed.length > 0) assert.fail(failed.map(({ output }) => output).join('\n'));
        });
      }
    });
  }
});

/** The numbers that a table's rows begin with, e.g. `| 1, 3 to 5 |`. */
function numbersIn(page: string): number[] {
  const rows = [...page.matchAll(/^\| (\d[\d, to]*) \|/gm)].map((match) => match[1] ?? '');
  return rows.flatMap((row) =>
    row.split(', ').flatMap((part) => {
      const [first = 0, last = first] = part.split(' to ').map(Number);
      return Array.from({ length: last - first + 1 }, (_, index) => first + index);
    }),
  );
}
