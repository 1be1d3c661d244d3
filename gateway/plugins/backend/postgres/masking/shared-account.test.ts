import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { LoginCredentialSchema } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { FakeVault } from '../../../../../test/fakes/vault.ts';
import { GatewayEnforced } from '../../../../../test/fixtures/gateway-enforced.ts';
import {
  POSTGRES_VERSIONS,
  postgresTitle,
  requirePostgres,
} from '../../../../../test/fixtures/postgres.ts';
import {
  LOGIN,
  LOGIN_PASSWORD,
  SHOP_READER,
  SHOP_SQL,
} from '../../../../../test/fixtures/shop-database.ts';

for (const version of POSTGRES_VERSIONS) {
  describe(`a shared account whose password Vault keeps, on ${postgresTitle(version)}`, () => {
    it('lets sessions in right after a rotation, as if there had been none', async function () {
      requirePostgres(this, version);
      const folder = await mkdtemp(join(tmpdir(), 'writ-test-shared-'));
      await using vault = await FakeVault.start();
      const kv = vault.root.enableKv('secret');
      kv.put('db/shop', { password: LOGIN_PASSWORD });
      const tokenFile = join(folder, 'token');
      const token = vault.root.tokens.create({ ttlSeconds: 0, paths: ['secret/data/*'] });
      await writeFile(tokenFile, token.text);
      const server = {
        address: vault.address,
        auth: { case: 'tokenFile', value: tokenFile },
      } as const;
      const secret = { mount: 'secret', path: 'db/shop', field: 'password' };
      const credential = create(LoginCredentialSchema, {
        source: { case: 'vaultKv', value: { server, ...secret } },
      });
      await using gateway = await GatewayEnforced.start({
        ...{ version, sql: SHOP_SQL, grant: SHOP_READER, credential },
      });
      using _before = await gateway.connect();
      await gateway.server.exec(`alter role ${LOGIN} password 'a new one'`);
      kv.put('db/shop', { password: 'a new one' });
      using _after = await gateway.connect();
      assert.equal(vault.countOf('GET secret/data/db/shop'), 2);
      await rm(folder, { recursive: true, force: true });
    }).timeout(60_000);
  });
}
