import assert from 'node:assert/strict';
import { SecretService, ServerService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { keyManager, openDatastore } from '../../server/plugins/catalog.ts';
import { restoreServer } from '../../server/restore-server.ts';
import { listSecrets } from '../../server/secrets/secret-rows.ts';
import { SecretSeal } from '../../server/secrets/secret-seal.ts';
import { backupOf, chunked } from '../fixtures/backup-bytes.ts';
import { writAt } from '../fixtures/cli-at-server.ts';
import { onEachStore, postgresStore, sqliteStore } from '../fixtures/each-store.ts';
import { CALL, RunningServer } from '../fixtures/running-server.ts';
import { type ServerHome, serverHome } from '../fixtures/server-home.ts';

onEachStore('a backup of the vault', (fresh, kind) => {
  const start = ({ stateDir, section }: ServerHome) =>
    RunningServer.start({ stateDir, config: section });

  it('holds the vault: values encrypted, and the key to them beside the other keys', async () => {
    const value = 'correct-horse-battery';
    const openSecrets = async (of: ServerHome) => {
      await using store = await openDatastore(of.config);
      const { wrapping } = keyManager(of.config);
      const trustDomain = of.config.trust_domain;
      const seal = new SecretSeal({ trustDomain, keys: { wrapping } });
      const versions = (await listSecrets(store)).flatMap((secret) => secret.versions);
      return await Promise.all(versions.map((version) => seal.open(version)));
    };
    const newStore = () => (kind === 'sqlite' ? sqliteStore() : postgresStore());
    using home = serverHome(fresh());
    await using replayedStore = await newStore();
    using replayed = serverHome(replayedStore);
    await using restoredStore = await newStore();
    using restored = serverHome(restoredStore);
    let bytes: Buffer;
    {
      await using server = await start(home);
      const secrets = server.admin(SecretService);
      for (const name of ['kept', 'kept', 'gone'])
        await secrets.putSecret({ name, value: Buffer.from(`${value} ${name}`) }, CALL);
      bytes = await backupOf(server);
      await secrets.retireSecret({ name: 'kept' }, CALL);
      await secrets.deleteSecret({ name: 'gone' }, CALL);
      const exported = (await writAt(server, 'audit', 'export')).out;
      const log = chunked(Buffer.from(`${exported}\n`));
      await restoreServer(replayed.configFile, chunked(bytes), log);
      assert.deepEqual(await openSecrets(replayed), [`${value} kept`]);
    }
    for (const encoding of ['utf8', 'base64', 'hex'] as const)
      assert.ok(!bytes.includes(Buffer.from(value).toString(encoding)), encoding);
    await restoreServer(restored.configFile, chunked(bytes));
    const all = ['gone', 'kept', 'kept'].map((name) => `${value} ${name}`);
    assert.deepEqual(await openSecrets(restored), all);
    await using server = await start(restored);
    await server.admin(ServerService).unlock({ reason: 'looked over' }, CALL);
    const put = { name: 'kept', value: Buffer.from('next') };
    const { version } = await server.admin(SecretService).putSecret(put, CALL);
    assert.equal(version, 1_000_000_003n, 'a number that no gateway has seen');
  }).timeout(60_000);
});
