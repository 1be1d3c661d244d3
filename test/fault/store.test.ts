import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Bundle } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { IdentityService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { RpcChannel, RpcError } from '../../runtime/grpc-client.ts';
import { writAt } from '../fixtures/cli-at-server.ts';
import { CutRelay } from '../fixtures/cut-relay.ts';
import { onEachStore, postgresStore, sharedPostgres } from '../fixtures/each-store.ts';
import { availableVersions } from '../fixtures/postgres.ts';
import { skipWithout } from '../fixtures/programs.ts';
import { entryInit } from '../fixtures/registry-world.ts';
import { until } from '../fixtures/restarts.ts';
import { CALL, RunningServer, temporaryDir } from '../fixtures/running-server.ts';
import { startServerProcess } from '../fixtures/server-process.ts';

const BACK_MS = 15_000;

/** The section of a configuration that names a store; its URL goes into a file. */
function configOf(url: string | undefined, directory: string): object {
  if (url === undefined) return {};
  const file = join(directory, 'store-url');
  writeFileSync(file, url, { mode: 0o600 });
  return { datastore: { postgres: { url_file: file } } };
}

onEachStore('a server that is killed while 1,000 entries are made', (fresh) => {
  const BATCH = 10;

  it('has lost nothing that it acknowledged, and no batch is half there', async () => {
    using directory = temporaryDir();
    const config = configOf(fresh().url, directory.path);
    const acknowledged = new Set<string>();
    {
      await using server = await startServerProcess(directory.path, config);
      await using channel = RpcChannel.unix(server.adminSocket);
      const numbers = Array.from({ length: 1000 / BATCH }, (_, batch) => batch);
      const work = Array.from({ length: 8 }, async () => {
        for (let batch = numbers.shift(); batch !== undefined; batch = numbers.shift()) {
          const entries = Array.from({ length: BATCH }, (_, n) =>
            entryInit({ path: `/crash/${batch}/${n}` }),
          );
          const { results } = await channel.client(Entry).batchCreateEntry({ entries }, CALL);
          assert.ok(results.every(({ status }) => status?.code === 0));
          for (const { entry } of results) acknowledged.add(entry?.spiffeId?.path ?? '');
          if (acknowledged.size >= 300) await server.kill();
        }
      });
      for (const outcome of await Promise.allSettled(work))
        if (outcome.status === 'rejected') assert.ok(outcome.reason instanceof RpcError);
    }
    assert.ok(acknowledged.size >= 300 && acknowledged.size < 1000, `${acknowledged.size} made`);

    await using server = await RunningServer.start({ stateDir: directory.path, config });
    const { entries } = await server.admin(Entry).listEntries({ pageSize: 1000 }, CALL);
    const kept = entries.map(({ spiffeId }) => spiffeId?.path ?? '').sort();
    for (const path of acknowledged) assert.ok(kept.includes(path), path);
    const batches = new Map<string, number>();
    for (const path of kept) {
      const batch = path.split('/')[2] ?? '';
      batches.set(batch, (batches.get(batch) ?? 0) + 1);
    }
    assert.deepEqual(new Set(batches.values()), new Set([BATCH]));
    const { identities } = await server.admin(IdentityService).listIdentities({}, CALL);
    const recorded = identities.map(({ spiffeId }) =>
      spiffeId.slice('spiffe://example.org'.length),
    );
    assert.deepEqual(recorded.sort(), kept, 'an identity record for each');
    const events = (await server.events()).filter(({ type }) => type === 'entry.created');
    assert.deepEqual(
      events.map(({ entryId }) => entryId).sort(),
      entries.map(({ id }) => id).sort(),
    );
    await writAt(server, 'audit', 'verify');
  }).timeout(120_000);
});

describe('a server whose PostgreSQL is away', () => {
  before(async function () {
    this.timeout(60_000);
    if (availableVersions().length === 0) skipWithout(this, 'PostgreSQL');
    await sharedPostgres();
  });

  it('answers from memory what it can, refuses the rest as unavailable, and recovers', async () => {
    await using store = await postgresStore();
    await using relay = new CutRelay(store.target.port);
    await relay.mend();
    using directory = temporaryDir();
    const url = store.url?.replace(`:${store.target.port}/`, `:${relay.port}/`);
    const config = configOf(url, directory.path);
    await using server = await RunningServer.start({ stateDir: directory.path, config });
    const { id } = await server.createEntry(entryInit({}));
    const { channel } = await server.newAgent();
    const entries = server.admin(Entry);
    const create = (path: string) =>
      entries.batchCreateEntry({ entries: [entryInit({ path })] }, CALL);
    const sync = () => channel.client(Entry).getAuthorizedEntries({}, CALL);
    await sync();

    await relay.cut();
    assert.equal((await entries.getEntry({ id }, CALL)).id, id);
    assert.equal((await entries.listEntries({}, CALL)).entries.length, 1);
    assert.equal((await entries.countEntries({}, CALL)).count, 1);
    assert.equal((await server.admin(Bundle).getBundle({}, CALL)).x509Authorities.length, 1);
    await assert.rejects(create('/b'), { status: 'UNAVAILABLE' });
    await assert.rejects(entries.batchDeleteEntry({ ids: [id] }, CALL), { status: 'UNAVAILABLE' });
    // Whether an agent was banned is in the store alone, so it keeps what it has and asks again.
    await assert.rejects(sync(), { status: 'UNAVAILABLE' });

    await relay.mend();
    const works = (act: () => Promise<unknown>) => () =>
      act().then(
        () => true,
        (error: unknown) => {
          assert.ok(error instanceof RpcError && error.status === 'UNAVAILABLE', String(error));
          return false;
        },
      );
    await until(
      works(() => create('/c')),
      BACK_MS,
      'entries are made again',
    );
    await until(works(sync), BACK_MS, 'agents are served again');
    assert.equal((await entries.countEntries({}, CALL)).count, 2);
    await writAt(server, 'audit', 'verify');
  }).timeout(60_000);

  it('does not start, and says why in one line', async () => {
    await using store = await postgresStore();
    await using relay = new CutRelay(store.target.port);
    await relay.mend();
    await relay.cut();
    using directory = temporaryDir();
    const url = store.url?.replace(`:${store.target.port}/`, `:${relay.port}/`);
    const config = configOf(url, directory.path);
    await assert.rejects(RunningServer.start({ stateDir: directory.path, config }), {
      code: 'STATE_UNUSABLE',
      message: `the store at 127.0.0.1:${relay.port} cannot be reached: ECONNREFUSED`,
    });
  });
});

describe('two servers on one PostgreSQL', () => {
  before(async function () {
    this.timeout(60_000);
    if (availableVersions().length === 0) skipWithout(this, 'PostgreSQL');
    await sharedPostgres();
  });

  it('show each other what they change within a second', async () => {
    await using store = await postgresStore();
    using near = temporaryDir();
    using far = temporaryDir();
    const config = configOf(store.url, near.path);
    await using one = await RunningServer.start({ stateDir: near.path, config });
    await using other = await RunningServer.start({ stateDir: far.path, config });
    const { id } = await one.createEntry(entryInit({}));
    const found = () =>
      other
        .admin(Entry)
        .getEntry({ id }, CALL)
        .then(
          () => true,
          () => false,
        );
    await until(found, 1000, 'the entry is at the other server');
    await one.admin(Entry).batchDeleteEntry({ ids: [id] }, CALL);
    await until(async () => !(await found()), 1000, 'the entry is gone from the other server');
    await writAt(other, 'audit', 'verify');
  }).timeout(60_000);
});

describe('a server whose disk is full', () => {
  const run = (program: string, ...args: string[]) =>
    execFileSync(program, args, { stdio: 'pipe' });
  let directory: ReturnType<typeof temporaryDir>;
  before(function () {
    directory = temporaryDir();
    if (process.getuid?.() !== 0) skipWithout(this, 'the right to mount a small disk');
    try {
      run('mount', '-t', 'tmpfs', '-o', 'size=16m,mode=700', 'tmpfs', directory.path);
    } catch {
      skipWithout(this, 'the right to mount a small disk');
    }
  });
  after(() => {
    try {
      run('umount', '-l', directory.path);
    } catch {
      // It was not mounted.
    }
    directory[Symbol.dispose]();
  });

  it('refuses what it cannot keep as unavailable, goes on reading, and recovers', async () => {
    const stateDir = join(directory.path, 'state');
    mkdirSync(stateDir, { mode: 0o700 });
    const filler = join(directory.path, 'filler');
    await using server = await RunningServer.start({ stateDir });
    const { id } = await server.createEntry(entryInit({}));
    const entries = server.admin(Entry);
    fill(filler);
    // The log of the store has some room left within its file.
    const refused = async () => {
      for (let batch = 0; batch < 200; batch += 1) {
        const inits = Array.from({ length: 100 }, (_, n) =>
          entryInit({ path: `/f/${batch}/${n}` }),
        );
        await entries.batchCreateEntry({ entries: inits }, CALL);
      }
    };
    await assert.rejects(refused(), { status: 'UNAVAILABLE' });
    assert.equal((await entries.getEntry({ id }, CALL)).id, id);
    const { count } = await entries.countEntries({}, CALL);
    await assert.rejects(refused(), { status: 'UNAVAILABLE' });
    assert.ok((await entries.countEntries({}, CALL)).count >= count);

    writeFileSync(filler, '');
    await server.createEntry(entryInit({ path: '/after' }));
    await writAt(server, 'audit', 'verify');
  }).timeout(60_000);

  /** Takes all the room there is. */
  function fill(file: string): void {
    try {
      writeFileSync(file, Buffer.alloc(64 * 1024 * 1024));
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
    }
  }
});
