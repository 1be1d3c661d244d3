import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'libsql';
import { isAlive, processesNaming } from '../fixtures/process-facts.ts';
import { freePortBase, type Outcome, runWrit, startUp } from '../fixtures/writ-up.ts';

/** Runs it in vain, and looks that nothing of it is left. */
async function refusedUp(state: string, ...args: readonly string[]): Promise<Outcome> {
  const portBase = String(await freePortBase());
  const outcome = await runWrit([
    ...['up', '--state', state, '--no-sample', '--port-base', portBase],
    ...args,
  ]);
  assert.equal(outcome.status, 1, outcome.stderr);
  assert.equal(outcome.stdout, '');
  assert.deepEqual(processesNaming(state), [], 'nothing is left running');
  assert.ok(!existsSync(join(state, 'up.json')));
  assert.ok(!existsSync(join(state, 'lock')), 'the lock is given back');
  return outcome;
}

function assertOneLine({ stderr }: Outcome, line: RegExp): void {
  assert.match(stderr, line);
  assert.equal(stderr.trim().split('\n').length, 1, stderr);
}

describe('writ up on a state directory that it cannot write', () => {
  const wrong: readonly [string, (folder: string) => Promise<string>][] = [
    [
      'below a file',
      async (folder) => {
        await writeFile(join(folder, 'file'), '');
        return join(folder, 'file/state');
      },
    ],
    ['in a file system that takes none', async () => `/proc/writ-${process.pid}`],
    [
      'that is a file itself',
      async (folder) => {
        await writeFile(join(folder, 'state'), '');
        return join(folder, 'state');
      },
    ],
  ];
  for (const [name, arrange] of wrong) {
    it(`says so in one line: one ${name}`, async () => {
      const folder = await mkdtemp(join(tmpdir(), 'writ-faults-'));
      const state = await arrange(folder);
      assertOneLine(await refusedUp(state), /^writ: \/.* is not writable: /);
      await rm(folder, { recursive: true, force: true });
    });
  }
});

describe('writ up on the state of an earlier run', () => {
  let folder: string;
  let state: string;

  before(async function () {
    this.timeout(90_000);
    folder = await mkdtemp(join(tmpdir(), 'writ-faults-'));
    await chmod(folder, 0o755);
    state = join(folder, 'state');
    const first = await startUp({ state });
    const { pids } = first.json;
    await first[Symbol.asyncDispose]();
    assert.deepEqual(Object.values(pids).filter(isAlive), []);
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it('refuses another trust domain than it began with', async () => {
    const outcome = await refusedUp(state, '--trust-domain', 'other.example');
    assertOneLine(outcome, /^writ: server: .*belongs to trust domain example\.org, not other/);
  }).timeout(40_000);

  it('refuses a clock that is more than 5 minutes behind the highest time seen', async () => {
    const ahead = Date.now() + 6 * 60_000;
    const was = exchangeHighestTime(state, String(ahead));
    const outcome = await refusedUp(state).finally(() => exchangeHighestTime(state, was));
    assertOneLine(outcome, /^writ: server: the clock says .*set the clock right$/m);
    assert.ok(outcome.stderr.includes(new Date(ahead).toISOString()));
  }).timeout(40_000);

  it('refuses a store whose schema is newer than the program', async () => {
    const was = exchangeSchemaVersion(state, 1000);
    const outcome = await refusedUp(state).finally(() => exchangeSchemaVersion(state, was));
    assertOneLine(outcome, /^writ: server: the store has schema version 1000, .*newer program$/m);
  }).timeout(40_000);

  it('says why the database does not start', async () => {
    const file = join(state, 'postgres/data/PG_VERSION');
    const was = await readFile(file);
    await writeFile(file, 'none\n');
    const outcome = await refusedUp(state).finally(() => writeFile(file, was));
    assertOneLine(outcome, /^writ: the demo database does not start; .*not a valid data directory/);
  }).timeout(40_000);

  it('goes on once each is mended', async () => {
    await using up = await startUp({ state });
    const verified = await up.writ('audit', 'verify');
    assert.equal(verified.status, 0, verified.stderr);
  }).timeout(60_000);
});

/** @returns what it was */
function exchangeHighestTime(state: string, next: string): string {
  return withStore(state, (database) => {
    const where = `where key = 'highest_time_ms'`;
    const row = database.prepare(`select value from meta ${where}`).get() as { value: string };
    database.prepare(`update meta set value = ? ${where}`).run(next);
    return row.value;
  });
}

/** @returns what it was */
function exchangeSchemaVersion(state: string, next: number): number {
  return withStore(state, (database) => {
    const row = database.prepare('pragma user_version').get() as { readonly user_version: number };
    database.exec(`pragma user_version = ${next}`);
    return row.user_version;
  });
}

function withStore<T>(state: string, act: (database: Database.Database) => T): T {
  const database = new Database(join(state, 'server/server.db'));
  try {
    return act(database);
  } finally {
    database.close();
  }
}
