import assert from 'node:assert/strict';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { create, toBinary } from '@bufbuild/protobuf';
import { readBackupFile, writeBackupFile } from '../../cli/backup-file.ts';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { EntrySchema } from '../../proto/gen/spire/api/types/entry_pb.ts';
import { IdentityService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { restoreBackup } from '../../server/backup/restore-backup.ts';
import { BACKED_UP_TABLES, tablesOf } from '../../server/backup/tables.ts';
import { holdStoreAlone, openDatastore, storedSchema } from '../../server/plugins/catalog.ts';
import type { Datastore } from '../../server/plugins/datastore/datastore.ts';
import { MIGRATIONS, SCHEMA_VERSION } from '../../server/plugins/datastore/migrations.ts';
import { openSqlite } from '../../server/plugins/datastore/sqlite.ts';
import { memoryKeyManager } from '../../server/plugins/key-manager/memory.ts';
import { type UpgradeServerOptions, upgradeServer } from '../../server/upgrade-server.ts';
import { writAt } from '../fixtures/cli-at-server.ts';
import { onEachStore, postgresStore, sqliteStore } from '../fixtures/each-store.ts';
import { entryInit, TD } from '../fixtures/registry-world.ts';
import { CALL, RunningServer, until } from '../fixtures/running-server.ts';
import { runSourceWrit, type ServerHome, serverHome } from '../fixtures/server-home.ts';

/** One more than this program knows: what the next one will bring. */
const NEXT = {
  version: SCHEMA_VERSION + 1,
  sql: `alter table identities add column note text not null default 'kept';`,
};
const ID = 'spiffe://example.org/old';
const FAR_MS = Date.now() + 1e9;

onEachStore('an upgrade of the schema', (fresh, kind) => {
  let home: ServerHome;
  beforeEach(() => {
    home = serverHome(fresh());
  });
  afterEach(() => home[Symbol.dispose]());

  const backupFile = () => join(home.stateDir, 'before.backup');
  const kept: UpgradeServerOptions = {
    keep: (chunks) => writeBackupFile(backupFile(), chunks, undefined),
    kept: () => readBackupFile(backupFile(), undefined),
  };
  const upgrade = (options: Partial<UpgradeServerOptions> = {}) =>
    upgradeServer(home.configFile, { ...kept, migrations: [...MIGRATIONS, NEXT], ...options });
  const openAs = (version: number) =>
    openDatastore(home.config, { migrations: [...MIGRATIONS, NEXT].slice(0, version) });

  /** A store as the program of that version left it. */
  const oldStore = async (version: number) => {
    await using store = await openAs(version);
    await fillOld(store);
  };

  for (let version = 1; version <= SCHEMA_VERSION; version += 1) {
    it(`M1: takes a store of version ${version} to the next with every row it has, after a backup from which it can go back`, async () => {
      await oldStore(version);
      assert.deepEqual(await upgrade(), {
        ...{ from: version, to: NEXT.version, canGoBack: version >= 3 },
      });
      assert.equal(await storedSchema(home.config), NEXT.version);
      {
        await using store = await openAs(NEXT.version);
        assert.deepEqual(await store.all('select spiffe_id, note from identities'), [
          { spiffe_id: ID, note: 'kept' },
        ]);
        assert.equal((await store.all('select 1 from entries')).length, 1);
        const events = await store.all('select type from audit_events');
        assert.deepEqual(events, [{ type: 'server.upgraded' }]);
      }
      assert.equal(statSync(backupFile()).mode & 0o777, 0o600);
      await using other = kind === 'sqlite' ? sqliteStore() : await postgresStore();
      using back = serverHome(other);
      const openStore = () =>
        openDatastore(back.config, { migrations: MIGRATIONS.slice(0, version) });
      await restoreBackup(readBackupFile(backupFile(), undefined), {
        ...{ trustDomain: TD, clock: systemClock, keys: memoryKeyManager(), openStore },
      });
      await using store = await openStore();
      assert.deepEqual(await store.all('select spiffe_id from identities'), [{ spiffe_id: ID }]);
    });
  }

  it('M1: a server refuses an older store with what to run, and serves it once that was run', async () => {
    await oldStore(1);
    const start = () => RunningServer.start({ stateDir: home.stateDir, config: home.section });
    await assert.rejects(start(), {
      code: 'STATE_UNUSABLE',
      message: `the store has schema version 1, this program ${SCHEMA_VERSION}: run writ server upgrade --config FILE --backup OUT`,
    });
    assert.equal(await storedSchema(home.config), 1);
    const argv = ['server', 'upgrade', '--config', home.configFile, '--backup', backupFile()];
    const { status, stdout, stderr } = await runSourceWrit(...argv);
    assert.equal(status, 0, stderr);
    assert.equal(stdout, `${backupFile()}\n`);
    assert.match(stderr, new RegExp(`^upgraded from schema version 1 to ${SCHEMA_VERSION}$`, 'm'));
    assert.match(stderr, /cannot go back: no program of schema version 1 restores/);
    assert.match((await runSourceWrit(...argv)).stderr, /nothing to upgrade/);
    await using server = await start();
    const { entries } = await server.admin(Entry).listEntries({}, CALL);
    assert.deepEqual(
      entries.map(({ spiffeId }) => spiffeId?.path),
      ['/old'],
    );
    const { identities } = await server.admin(IdentityService).listIdentities({}, CALL);
    assert.deepEqual(
      identities.map(({ spiffeId }) => spiffeId),
      [ID],
    );
    await writAt(server, 'audit', 'verify');
  }).timeout(60_000);

  it('leaves the old store as it was, whatever fails between the backup and the new schema', async () => {
    await oldStore(2);
    const failed = new Error('power is lost');
    const migrations = [...MIGRATIONS, { ...NEXT, sql: `${NEXT.sql} select nonsense;` }];
    const failures: readonly Partial<UpgradeServerOptions>[] = [
      { keep: () => Promise.reject(failed) },
      {
        kept: () => {
          throw failed;
        },
      },
      // A backup of which the end is missing.
      {
        async *kept() {
          for await (const chunk of kept.kept()) yield chunk.subarray(0, -1);
        },
      },
      { migrations },
    ];
    for (const [n, options] of failures.entries()) {
      const keep: UpgradeServerOptions['keep'] = (chunks) =>
        writeBackupFile(`${backupFile()}${n}`, chunks, undefined);
      const read = () => readBackupFile(`${backupFile()}${n}`, undefined);
      await assert.rejects(upgrade({ keep, kept: read, ...options }));
      assert.equal(await storedSchema(home.config), 2);
      await using store = await openAs(2);
      assert.equal((await store.all('select 1 from entries')).length, 1);
      assert.deepEqual(await store.all('select 1 from audit_events'), []);
    }
    assert.ok(!existsSync(join(home.stateDir, 'upgrade-trial')));
    assert.ok(readdirSync(home.stateDir).every((name) => !name.endsWith('.part')));
  });

  it('refuses a store that changes while it is backed up', async () => {
    await oldStore(2);
    const keep: UpgradeServerOptions['keep'] = async (chunks) => {
      await kept.keep(chunks);
      await using other = await openAs(2);
      await putEvent(other);
    };
    await assert.rejects(upgrade({ keep }), { code: 'FAILED_PRECONDITION', message: /changed/ });
    assert.equal(await storedSchema(home.config), 2);
  });

  it('refuses what is newer than the program, empty, or of another trust domain', async () => {
    await assert.rejects(upgrade(), { code: 'FAILED_PRECONDITION', message: /no store yet/ });
    await oldStore(NEXT.version);
    const older = upgrade({ migrations: MIGRATIONS });
    await assert.rejects(older, { code: 'STATE_UNUSABLE', message: /run the newer program/ });
    {
      await using other = await openAs(NEXT.version);
      await other.transaction((tx) => tx.run(`update meta set value = 'other.org'`));
    }
    const next = { version: NEXT.version + 1, sql: 'create table more (a text);' };
    const foreign = upgrade({ migrations: [...MIGRATIONS, NEXT, next] });
    await assert.rejects(foreign, { code: 'STATE_UNUSABLE', message: /other\.org/ });
    assert.ok(!existsSync(backupFile()));
  });

  it('refuses while a server has the store open, on this state directory or another', async () => {
    await using _ = await RunningServer.start({ stateDir: home.stateDir, config: home.section });
    await assert.rejects(upgrade(), { code: 'STATE_UNUSABLE', message: /admin\.sock/ });
    if (kind === 'postgres') {
      using elsewhere = serverHome(fresh());
      const refused = () =>
        holdStoreAlone(elsewhere.config).then(
          async (held) => {
            await held[Symbol.asyncDispose]();
            return false;
          },
          () => true,
        );
      await until(refused);
      const options = { ...kept, migrations: [...MIGRATIONS, NEXT] };
      await assert.rejects(upgradeServer(elsewhere.configFile, options), {
        ...{ code: 'FAILED_PRECONDITION', message: /stop every server/ },
      });
    }
    assert.equal(await storedSchema(home.config), SCHEMA_VERSION);
    assert.ok(!existsSync(backupFile()));
  });

  if (kind === 'sqlite') return;

  it('keeps a server that was cut off from the store while others upgraded it from writing', async () => {
    await oldStore(2);
    await using cutOff = await openAs(2);
    {
      const migrations = [...MIGRATIONS, NEXT];
      await using _ = await openDatastore(home.config, {
        migrations,
        upgrade: async () => undefined,
      });
    }
    await assert.rejects(putEvent(cutOff), { code: 'STATE_UNUSABLE', message: /newer program/ });
    await assert.rejects(putEvent(cutOff), { code: 'STATE_UNUSABLE' });
  });
});

describe('tablesOf', () => {
  it('is every table of each schema', async () => {
    for (let version = 1; version <= SCHEMA_VERSION; version += 1) {
      await using store = await openSqlite(':memory:', MIGRATIONS.slice(0, version));
      const tables = await store.all(
        `select name from sqlite_master where type = 'table' and name not like 'sqlite_%'`,
      );
      const names = tables.map(({ name }) => String(name)).sort();
      assert.deepEqual(
        tablesOf(version)
          .map(({ name }) => name)
          .sort(),
        names,
        `version ${version}`,
      );
    }
    assert.deepEqual(tablesOf(SCHEMA_VERSION), BACKED_UP_TABLES);
  });
});

/** An identity and its entry, in the columns that every version has. */
async function fillOld(store: Datastore): Promise<void> {
  const body = toBinary(
    EntrySchema,
    create(EntrySchema, { ...entryInit({ path: '/old' }), id: 'e1' }),
  );
  await store.transaction(async (tx) => {
    await tx.run(`insert into meta (key, value) values ('trust_domain', 'example.org')`);
    await tx.run(
      `insert into identities (spiffe_id, owner, purpose, environment, kind, labels, status,
         expires_at_ms, created_at_ms)
       values (?, 'ana', 'p', 'test', 'service', '{}', 'active', ?, 1)`,
      ID,
      FAR_MS,
    );
    await tx.run(
      `insert into entries (id, spiffe_id, parent_id, selectors, body, expires_at_ms, created_at_ms)
       values ('e1', ?, 'spiffe://example.org/node', '[["unix","uid:1000"]]', ?, 0, 1)`,
      ID,
      body,
    );
  });
}

function putEvent(store: Datastore): Promise<number> {
  const none = new Uint8Array();
  return store.transaction((tx) =>
    tx.run(
      `insert into audit_events (seq, at_ms, writer, writer_seq, type, body, leaf_hash, hash)
       values (1, 0, 'server', 1, 't', ?, ?, ?)`,
      ...[none, none, none],
    ),
  );
}
