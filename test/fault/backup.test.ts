import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { X509Svid } from '../../identity/x509-svid.ts';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { SVID } from '../../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import { ServerService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { BACKED_UP_TABLES } from '../../server/backup/tables.ts';
import { openSqlite } from '../../server/plugins/datastore/sqlite.ts';
import { restoreServer } from '../../server/restore-server.ts';
import { entryInit } from '../fixtures/registry-world.ts';
import { CALL, RunningServer, SERVER_CONFIG, temporaryDir } from '../fixtures/running-server.ts';

const ID = { trustDomain: 'example.org', path: '/minted' };

describe('backup and restore', () => {
  const folders: Disposable[] = [];
  const folder = () => {
    const made = temporaryDir();
    folders.push(made);
    return made.path;
  };
  after(() => {
    for (const one of folders) one[Symbol.dispose]();
  });

  const backupOf = async (server: RunningServer) => {
    const chunks: Uint8Array[] = [];
    for await (const { chunk } of server.admin(ServerService).backup({}, CALL)) chunks.push(chunk);
    return Buffer.concat(chunks);
  };
  const configIn = (stateDir: string) => {
    const file = join(stateDir, 'server.yaml');
    writeFileSync(file, stringify({ ...SERVER_CONFIG, state_dir: stateDir }));
    return file;
  };
  async function* chunked(bytes: Uint8Array) {
    for (let at = 0; at < bytes.length; at += 1000) yield bytes.subarray(at, at + 1000);
  }

  it('M2: a restored server starts locked, trusts its old agents after unlocking, and nothing half done is left', async () => {
    let bytes: Buffer;
    let agent: X509Svid;
    {
      await using server = await RunningServer.start({ stateDir: folder() });
      agent = (await server.newAgent()).svid;
      await server.entryUnder(agent, '/web');
      bytes = await backupOf(server);
      await server.entryUnder(agent, '/later');
    }
    const stateDir = folder();
    await restoreServer(configIn(stateDir), chunked(bytes));
    await using server = await RunningServer.start({ stateDir });
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
      await using server = await RunningServer.start({ stateDir: folder() });
      const { results } = await server
        .admin(Entry)
        .batchCreateEntry({ entries: [entryInit({})] }, CALL);
      await server.admin(Entry).batchDeleteEntry({ ids: [results[0]?.entry?.id ?? ''] }, CALL);
      bytes = await backupOf(server);
    }
    const stateDir = folder();
    await restoreServer(configIn(stateDir), chunked(bytes));
    await using store = await openSqlite(join(stateDir, 'server.db'));
    const rows = await store.all('select seq, cause from revocations order by seq');
    assert.deepEqual(rows, [{ seq: 1_000_000_001, cause: 'entry.delete' }]);
    const sequence = await store.get(`select value from meta where key = 'bundle_sequence'`);
    assert.ok(Number(sequence?.value) > 1_000_000_000);
  }).timeout(60_000);

  it('refuses what is damaged, of another trust domain or into a store that is not empty, and leaves nothing', async () => {
    const stateDir = folder();
    let bytes: Buffer;
    {
      await using server = await RunningServer.start({ stateDir });
      bytes = await backupOf(server);
    }
    const empty = folder();
    const config = configIn(empty);
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
      await using store = await openSqlite(join(empty, 'server.db'));
      for (const { name } of BACKED_UP_TABLES)
        assert.deepEqual(await store.all(`select 1 from ${name}`), []);
    }
    await assert.rejects(restoreServer(configIn(stateDir), chunked(bytes)), {
      code: 'FAILED_PRECONDITION',
    });
    await restoreServer(config, chunked(bytes));
  }).timeout(60_000);

  it('has every table of the schema, by its key', async () => {
    await using store = await openSqlite(':memory:');
    const tables = await store.all(
      `select name from sqlite_master where type = 'table' and name not like 'sqlite_%' order by name`,
    );
    assert.deepEqual(
      BACKED_UP_TABLES.map(({ name }) => name).sort(),
      tables.map(({ name }) => String(name)),
    );
  });
});
