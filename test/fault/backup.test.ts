import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import type { X509Svid } from '../../identity/x509-svid.ts';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { SVID } from '../../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import {
  AuthorityService,
  IdentityService,
  JoinTokenService,
  LockService,
  ServerService,
} from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { BACKED_UP_TABLES } from '../../server/backup/tables.ts';
import { openDatastore } from '../../server/plugins/catalog.ts';
import { restoreServer } from '../../server/restore-server.ts';
import { backupOf, chunked } from '../fixtures/backup-bytes.ts';
import { writAt } from '../fixtures/cli-at-server.ts';
import { onEachStore, postgresStore, sqliteStore } from '../fixtures/each-store.ts';
import { svidOfNewEntry } from '../fixtures/nested-server.ts';
import { entryInit } from '../fixtures/registry-world.ts';
import { CALL, RunningServer } from '../fixtures/running-server.ts';
import { runSourceWrit, type ServerHome, serverHome } from '../fixtures/server-home.ts';

const ID = { trustDomain: 'example.org', path: '/minted' };

onEachStore('backup and restore', (fresh, kind) => {
  let closers: AsyncDisposable[] = [];
  let home: ServerHome;
  beforeEach(() => {
    home = serverHome(fresh());
  });
  afterEach(async () => {
    home[Symbol.dispose]();
    for (const one of closers) await one[Symbol.asyncDispose]();
    closers = [];
  });

  /** For a server that is restored: nothing is there yet. */
  const newHome = async (): Promise<ServerHome> => {
    const store = kind === 'sqlite' ? sqliteStore() : await postgresStore();
    const made = serverHome(store);
    closers.push({
      async [Symbol.asyncDispose]() {
        made[Symbol.dispose]();
        await store[Symbol.asyncDispose]();
      },
    });
    return made;
  };
  const start = ({ stateDir, section }: ServerHome) =>
    RunningServer.start({ stateDir, config: section });

  it('M2: a restored server starts locked, trusts its old agents after unlocking, and nothing half done is left', async () => {
    let bytes: Buffer;
    let agent: X509Svid;
    {
      await using server = await start(home);
      agent = (await server.newAgent()).svid;
      await server.entryUnder(agent, '/web');
      bytes = await backupOf(server);
      await server.entryUnder(agent, '/later');
    }
    const restored = await newHome();
    await restoreServer(restored.configFile, chunked(bytes));
    await using server = await start(restored);
    const { entries } = await server.admin(Entry).listEntries({}, CALL);
    assert.equal(entries.length, 1);

    const asAgent = await server.dial(agent);
    const sync = () => asAgent.client(Entry).getAuthorizedEntries({}, CALL);
    await assert.rejects(sync(), { status: 'UNAVAILABLE' });
    const mint = () => server.admin(SVID).mintJWTSVID({ id: ID, audience: ['a'] }, CALL);
    await assert.rejects(mint(), { status: 'FAILED_PRECONDITION', message: /writ server unlock/ });

    await server.admin(Agent).countAgents({}, CALL);
    await server.admin(ServerService).unlock({ reason: 'looked over' }, CALL);
    assert.equal((await sync()).entries.length, 1);
    await mint();
    const types = (await server.events()).map(({ type }) => type);
    assert.ok(types.includes('server.restored') && types.includes('server.unlocked'));
  }).timeout(60_000);

  it('M2: goes on counting above what gateways have seen, and tells every revocation anew', async () => {
    let bytes: Buffer;
    {
      await using server = await start(home);
      const { results } = await server
        .admin(Entry)
        .batchCreateEntry({ entries: [entryInit({})] }, CALL);
      await server.admin(Entry).batchDeleteEntry({ ids: [results[0]?.entry?.id ?? ''] }, CALL);
      bytes = await backupOf(server);
    }
    const restored = await newHome();
    await restoreServer(restored.configFile, chunked(bytes));
    await using store = await openDatastore(restored.config);
    const rows = await store.all('select seq, cause from revocations order by seq');
    assert.deepEqual(rows, [{ seq: 1_000_000_001, cause: 'entry.delete' }]);
    const sequence = await store.get(`select value from meta where key = 'bundle_sequence'`);
    assert.ok(Number(sequence?.value) > 1_000_000_000);
  }).timeout(60_000);

  it('refuses what is damaged, of another trust domain or into a store that is not empty, and leaves nothing', async () => {
    let bytes: Buffer;
    {
      await using server = await start(home);
      bytes = await backupOf(server);
    }
    const empty = await newHome();
    const config = empty.configFile;
    const middle = Math.floor(bytes.length / 2);
    for (const damaged of [
      bytes.subarray(0, -1),
      bytes.subarray(0, middle),
      Buffer.concat([bytes.subarray(0, middle), bytes.subarray(middle + 1)]),
    ])
      await assert.rejects(restoreServer(config, chunked(damaged)), { code: 'STATE_UNUSABLE' });
    const other = Buffer.from(bytes.toString('utf8').replace('"example.org"', '"other.org"'));
    await assert.rejects(restoreServer(config, chunked(other)), { code: 'STATE_UNUSABLE' });
    {
      await using store = await openDatastore(empty.config);
      for (const { name } of BACKED_UP_TABLES)
        assert.deepEqual(await store.all(`select 1 from ${name}`), []);
    }
    await assert.rejects(restoreServer(home.configFile, chunked(bytes)), {
      code: 'FAILED_PRECONDITION',
    });
    await restoreServer(config, chunked(bytes));
  }).timeout(60_000);

  it('M2: counts above what was seen even where the backup has nothing to count from', async () => {
    let bytes: Buffer;
    {
      await using server = await start(home);
      bytes = await backupOf(server);
    }
    const restored = await newHome();
    await restoreServer(restored.configFile, chunked(bytes));
    await using store = await openDatastore(restored.config);
    for (const table of ['revocations', 'entry_events'])
      assert.deepEqual(await store.all(`select seq from ${table}`), [{ seq: 1_000_000_000 }]);
  }).timeout(60_000);

  if (kind === 'postgres')
    it('a backup of one kind of store is restored into the other, and back', async () => {
      let bytes: Buffer;
      {
        await using server = await start(home);
        await server.createEntry(entryInit({ path: '/moved' }));
        bytes = await backupOf(server);
      }
      await using file = sqliteStore();
      using other = serverHome(file);
      for (const place of [other, await newHome()]) {
        await restoreServer(place.configFile, chunked(bytes));
        await using server = await start(place);
        const { entries } = await server.admin(Entry).listEntries({}, CALL);
        assert.deepEqual(
          entries.map(({ spiffeId }) => spiffeId?.path),
          ['/moved'],
        );
        bytes = await backupOf(server);
      }
    }).timeout(60_000);

  describe('with an export of the audit log', () => {
    /** What rights ended after the backup, and what was made then. */
    const story = async (server: RunningServer) => {
      const gone = await svidOfNewEntry(server, '/gone');
      const held = await svidOfNewEntry(server, '/held');
      const evicted = await server.newAgent();
      const banned = await server.newAgent();
      const token = await server
        .admin(JoinTokenService)
        .createJoinToken({ ttlSeconds: 600, agentId: '' }, CALL);
      const back = await server.createEntry(entryInit({ path: '/back' }));
      const bytes = await backupOf(server);
      await server.admin(Entry).batchDeleteEntry({ ids: [gone.entryId] }, CALL);
      const status = (spiffeId: string, to: string) =>
        server
          .admin(IdentityService)
          .setIdentityStatus({ spiffeId, status: to, reason: 'stolen' }, CALL);
      await status('spiffe://example.org/held', 'retired');
      await status('spiffe://example.org/back', 'suspended');
      await status('spiffe://example.org/back', 'active');
      const agentId = (svid: X509Svid) => ({ trustDomain: 'example.org', path: svid.id.path });
      await server.admin(Agent).deleteAgent({ id: agentId(evicted.svid) }, CALL);
      await server.admin(Agent).banAgent({ id: agentId(banned.svid) }, CALL);
      const target = { case: 'spiffeId', value: 'spiffe://example.org/locked' } as const;
      await server.admin(LockService).createLock({ target: { target }, reason: 'look' }, CALL);
      const spent = await server.attest(token.joinString.split('.')[1] ?? '');
      const later = await server.newAgent();
      await server.admin(Agent).banAgent({ id: agentId(later.svid) }, CALL);
      const exported = (await writAt(server, 'audit', 'export')).out;
      const ids = { gone, held, back: back.id, spent, later: later.svid };
      return { bytes, exported: Buffer.from(`${exported}\n`), evicted, banned, token, ...ids };
    };

    it('M2: nothing that it says was revoked lives again, and the log goes on as it was', async () => {
      let told: Awaited<ReturnType<typeof story>>;
      {
        await using server = await start(home);
        told = await story(server);
      }
      const restored = await newHome();
      const { replayed } = await restoreServer(
        restored.configFile,
        chunked(told.bytes),
        chunked(told.exported),
      );
      assert.ok(replayed !== undefined && replayed.events > 10);
      {
        await using store = await openDatastore(restored.config);
        const revoked = await store.all(
          `select spiffe_id from ledger where revoked_at_ms is not null and kind = 'x509' order by 1`,
        );
        const paths = revoked.map(({ spiffe_id: id }) => SpiffeId.parse(String(id)).path);
        assert.deepEqual(paths, ['/gone', '/held']);
        const causes = await store.all('select distinct cause from revocations order by cause');
        assert.deepEqual(
          causes.map(({ cause }) => cause),
          [
            ...['agent.ban', 'agent.evict', 'entry.delete', 'identity.retire'],
            ...['identity.suspend', 'lock.create', 'server.restore'],
          ],
        );
      }
      await using server = await start(restored);
      await server.admin(ServerService).unlock({ reason: 'looked over' }, CALL);
      const { entries } = await server.admin(Entry).listEntries({}, CALL);
      assert.deepEqual(entries.map(({ spiffeId }) => spiffeId?.path).sort(), ['/back', '/held']);
      const { identities } = await server.admin(IdentityService).listIdentities({}, CALL);
      const statuses = Object.fromEntries(identities.map((one) => [one.spiffeId, one.status]));
      assert.equal(statuses['spiffe://example.org/held'], 'retired');
      assert.equal(statuses['spiffe://example.org/back'], 'active');
      const { agents } = await server.admin(Agent).listAgents({}, CALL);
      const banned = agents.filter((agent) => agent.banned).map(({ id }) => id?.path);
      assert.deepEqual(
        banned.sort(),
        [told.banned.svid.id.path, told.later.id.path].sort(),
        'one that attested after the backup too',
      );
      assert.ok(agents.every(({ id }) => id?.path !== told.evicted.svid.id.path));
      const { locks } = await server.admin(LockService).listLocks({}, CALL);
      assert.deepEqual(
        locks.map(({ reason }) => reason),
        ['look'],
      );
      await assert.rejects(server.attest(told.token.joinString.split('.')[1] ?? ''));
      assert.match((await writAt(server, 'audit', 'verify')).out, /unbroken/);
      const before = told.exported.toString('utf8').trimEnd();
      assert.ok((await writAt(server, 'audit', 'export')).out.startsWith(before));
    }).timeout(120_000);

    it('M2: an authority that was tainted signs nothing again', async () => {
      let bytes: Buffer;
      let exported: string;
      let old: string;
      const x509 = async (server: RunningServer) => {
        const { authorities } = await server.admin(AuthorityService).listAuthorities({}, CALL);
        return authorities.filter(({ kind }) => kind === 'x509');
      };
      {
        await using server = await start(home);
        old = (await x509(server))[0]?.id ?? '';
        bytes = await backupOf(server);
        const next = (await writAt(server, 'authority', 'prepare', 'x509')).out;
        await writAt(server, 'authority', 'activate', next);
        await writAt(server, 'authority', 'taint', old);
        exported = (await writAt(server, 'audit', 'export')).out;
      }
      const restored = await newHome();
      const log = chunked(Buffer.from(`${exported}\n`));
      await restoreServer(restored.configFile, chunked(bytes), log);
      await using server = await start(restored);
      const found = (await x509(server)).map(({ id, state, tainted }) => [
        id === old,
        state,
        tainted,
      ]);
      assert.deepEqual(found.sort(), [
        [false, 'active', false],
        [true, 'old', true],
      ]);
    }).timeout(60_000);

    it('M2: refuses an export that is broken, of another log, or does not meet the backup', async () => {
      let bytes: Buffer;
      let lines: string[];
      let shorter: string[];
      {
        await using server = await start(home);
        await server.createEntry(entryInit({ path: '/a' }));
        shorter = (await writAt(server, 'audit', 'export')).out.split('\n').slice(0, -1);
        await server.admin(AuthorityService).listAuthorities({}, CALL);
        bytes = await backupOf(server);
        await server.createEntry(entryInit({ path: '/b' }));
        await server.createEntry(entryInit({ path: '/c' }));
        lines = (await writAt(server, 'audit', 'export')).out.split('\n');
      }
      const last = lines.at(-1) ?? '';
      const changed = JSON.stringify({
        ...JSON.parse(last),
        hash: Buffer.alloc(32).toString('base64'),
      });
      let foreign: string[];
      {
        await using other = await RunningServer.start();
        for (let n = 0; n < lines.length; n += 1)
          await other.createEntry(entryInit({ path: `/other/${n}` }));
        foreign = (await writAt(other, 'audit', 'export')).out.split('\n');
      }
      const restored = await newHome();
      const withExport = (of: readonly string[], end = '\n') =>
        restoreServer(
          restored.configFile,
          chunked(bytes),
          chunked(Buffer.from(of.join('\n') + end)),
        );
      const refused: readonly (readonly [readonly string[], string, RegExp])[] = [
        [[...lines.slice(0, -1), changed], '\n', /broken at event/],
        [lines.toSpliced(-2, 1), '\n', /stands in its place/],
        [lines.slice(-1), '\n', /begins with event/],
        [shorter, '\n', /ends with event/],
        [foreign, '\n', /another than in the backup/],
        [[...lines, 'junk'], '\n', /no event/],
        [lines, '', /cut short/],
        [[], '', /ends with event 0/],
      ];
      for (const [of, end, message] of refused)
        await assert.rejects(withExport(of, end), { code: 'FAILED_PRECONDITION', message });
      {
        await using store = await openDatastore(restored.config);
        for (const { name } of BACKED_UP_TABLES)
          assert.deepEqual(await store.all(`select 1 from ${name}`), []);
      }
      const { replayed } = await withExport(lines);
      assert.ok(replayed !== undefined && replayed.events >= 2);
    }).timeout(120_000);
  });
});

describe('writ server restore', () => {
  it('tells what an export has ended, and which end of the log it saw', async () => {
    await using store = sqliteStore();
    using home = serverHome(store);
    using target = serverHome(store);
    const file = join(home.stateDir, 'log.jsonl');
    const backup = join(home.stateDir, 'one.backup');
    let head: string;
    {
      await using server = await RunningServer.start({ stateDir: home.stateDir });
      await writAt(server, 'server', 'backup', '--out', backup);
      await server.createEntry(entryInit({ path: '/a' }));
      const { out, err } = await writAt(server, 'audit', 'export');
      writeFileSync(file, `${out}\n`);
      head = err;
    }
    const flags = ['--config', target.configFile, '--from', backup, '--audit-export', file];
    const { status, stderr } = await runSourceWrit('server', 'restore', ...flags);
    assert.equal(status, 0, stderr);
    const [, seq, hash] = /^(\d+) events, head ([0-9a-f]{64})$/.exec(head) ?? [];
    assert.match(stderr, new RegExp(`up to event ${seq}, head ${hash}:`));
  }).timeout(60_000);
});
