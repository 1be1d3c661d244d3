import assert from 'node:assert/strict';
import { createPublicKey } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { JSONWebKeySet } from 'jose';
import { stringify } from 'yaml';
import { Bundle } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { FakeVault } from '../fakes/vault.ts';
import type { FakeDatabase } from '../fakes/vault-database.ts';
import { asSuperuser } from '../fixtures/shop-catalog.ts';
import { readingWorkload, type Workload } from '../fixtures/workload.ts';
import { type RunningUp, startUp } from '../fixtures/writ-up.ts';

const GATEWAY = 'spiffe://example.org/writ/gateway/demo';
const CREATION = [
  `CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE writ_gateway;`,
];
const never = new AbortController().signal;

describe("a gateway whose database account comes from Vault for its JWT-SVID's sake", () => {
  let up: RunningUp;
  let vault: FakeVault;
  let database: FakeDatabase;
  let workload: Workload;
  let keys: JSONWebKeySet;

  before(async function () {
    this.timeout(90_000);
    up = await startUp();
    workload = await readingWorkload(up, 'reader');
    keys = await jwtKeys(up);
    vault = await FakeVault.start();
    database = vault.root.enableDatabase('database', {
      exec: (sql) => asSuperuser(up, sql),
      roles: { writ: { creation: CREATION, ttlSeconds: 3600, maxTtlSeconds: 7200 } },
    });
    vault.root.enableAuth('jwt', {
      type: 'jwt',
      roles: {
        'writ-gateway': {
          ...{ audience: 'vault', subject: GATEWAY, keys: () => keys },
          token: {
            ttlSeconds: 3600,
            paths: ['database/creds/writ', 'sys/leases/renew', 'sys/leases/revoke'],
          },
        },
      },
    });
    await applyBackend(up, {
      address: vault.address,
      auth: { jwt: { role: 'writ-gateway', audience: 'vault' } },
      role: 'writ',
    });
  });
  after(async function () {
    this.timeout(30_000);
    await workload?.[Symbol.asyncDispose]();
    await up?.[Symbol.asyncDispose]();
    await vault?.[Symbol.asyncDispose]();
  });

  /** The accounts that Vault made and that are logged in for the gateway. */
  async function accounts(): Promise<string[]> {
    const rows = await asSuperuser<{ name: string }>(
      up,
      `select distinct usename as name from pg_stat_activity
       where application_name = 'writ-gateway' and usename like 'v-test-writ-%'`,
    );
    return rows.map(({ name }) => name);
  }

  async function firstAccount(): Promise<string> {
    for (;;) {
      const [name] = await accounts();
      if (name !== undefined) return name;
      await systemClock.wait(50, never);
    }
  }

  it('opens sessions by it, and keeps them when Vault takes it away under them', async () => {
    const first = await firstAccount();
    const client = await workload.connect();
    const read = async () => (await client.query('select id from customers')).rowCount ?? 0;
    assert.ok((await read()) > 0);
    await vault.root.leases.revoke(vault.root.leases.ids[0]);
    assert.deepEqual(
      await asSuperuser(up, `select from pg_roles where rolname = '${first}'`),
      [],
      'the account is gone',
    );
    assert.ok((await read()) > 0);
    const other = await workload.connect();
    assert.ok((await other.query('select id from customers')).rowCount);
    assert.ok((await read()) > 0);
    await other.end();
    await client.end();
    assert.ok(!(await accounts()).includes(first));
  }).timeout(60_000);

  it('gives account and token back when it stops, and tells nobody what they were', async () => {
    await firstAccount();
    const output = () => up.output();
    up.signal('SIGTERM');
    await up.exited;
    assert.deepEqual(vault.root.leases.ids, []);
    assert.deepEqual(vault.root.tokens.living, []);
    for (const password of database.passwords) assert.ok(!output().includes(password));
    assert.ok(!output().includes('hvs.'));
  }).timeout(60_000);
});

/** The trust domain's keys, as its OIDC discovery endpoint has them. */
async function jwtKeys(up: RunningUp): Promise<JSONWebKeySet> {
  const { jwtAuthorities } = await up.admin(Bundle).getBundle({}, { signal: never });
  return {
    keys: jwtAuthorities.map(({ publicKey, keyId }) => ({
      ...createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' }).export({
        format: 'jwk',
      }),
      kid: keyId,
    })) as JSONWebKeySet['keys'],
  };
}

async function applyBackend(up: RunningUp, vaultDatabase: object): Promise<void> {
  const url = new URL(up.json.demo.database_url);
  const document = {
    kind: 'Backend',
    name: 'shop',
    type: 'postgres',
    environment: 'demo',
    postgres: {
      host: '127.0.0.1',
      port: Number(url.port),
      database: url.pathname.slice(1),
      login: { user: 'writ_gateway', vault_database: vaultDatabase },
      tls: {
        ca_file: join(up.state, 'postgres-ca.pem'),
        server_name: 'localhost',
        channel_binding: 'require',
      },
    },
  };
  const folder = await mkdtemp(join(tmpdir(), 'writ-test-vault-'));
  const file = join(folder, 'shop.yaml');
  await writeFile(file, stringify(document));
  const { status, stderr } = await up.writ('apply', '-f', file);
  await rm(folder, { recursive: true, force: true });
  assert.equal(status, 0, stderr);
}
