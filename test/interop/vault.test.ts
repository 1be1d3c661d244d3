/** The client hvac judges the server that our tests take for a Vault. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { FakeVault } from '../fakes/vault.ts';
import { localhostCertificate, localhostKey } from '../fixtures/localhost-tls.ts';
import { availableVersions, startPostgres } from '../fixtures/postgres.ts';
import { interopPython, skipWithout } from '../fixtures/programs.ts';
import { runProgram } from '../fixtures/writ-up.ts';

const HERE = dirname(fileURLToPath(import.meta.url));
const SUBJECT = 'spiffe://example.org/writ/gateway/gw-1';

describe('the fake Vault, by hvac', () => {
  it('answers as the documented API does', async function () {
    const python = interopPython();
    if ('reason' in python) return skipWithout(this, python.reason);
    const [version] = availableVersions();
    if (version === undefined) return skipWithout(this, 'PostgreSQL');
    const key = localhostKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    await using server = await startPostgres({ version });
    await server.exec('create role edge; create role fixed login');
    await using vault = await FakeVault.start({ tls: { cert: localhostCertificate, key } });
    const token = { ttlSeconds: 300, maxTtlSeconds: 600, paths: ['*'] };
    const secretIds = new Map([['the secret ID', 2]]);
    vault.root.enableAuth('approle', {
      type: 'approle',
      roles: [{ roleId: 'the role ID', secretIds, token }],
    });
    vault.root.enableKv('secret');
    vault.root.enableDatabase('database', {
      exec: (sql) => server.exec(sql),
      roles: {
        edge: {
          creation: [
            `CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE edge;`,
          ],
          ttlSeconds: 60,
          maxTtlSeconds: 3600,
        },
      },
      staticRoles: { fixed: { username: 'fixed', rotationSeconds: 3600 } },
    });
    const pair = await generateKeyPair('ES256');
    const jwk = { ...(await exportJWK(pair.publicKey)), alg: 'ES256', kid: 'a' };
    const team = vault.namespace('teams/a');
    team.enableKv('secret');
    team.enableAuth('jwt', {
      type: 'jwt',
      roles: {
        gateway: {
          audience: 'vault',
          subject: SUBJECT,
          keys: () => ({ keys: [jwk] }),
          token: { ttlSeconds: 0, paths: ['secret/data/other'] },
        },
      },
    });
    const jwt = await new SignJWT()
      .setProtectedHeader({ alg: 'ES256', kid: 'a' })
      .setSubject(SUBJECT)
      .setAudience('vault')
      .setExpirationTime('5m')
      .sign(pair.privateKey);
    const folder = await mkdtemp(join(tmpdir(), 'writ-test-hvac-'));
    const caFile = join(folder, 'ca.pem');
    await writeFile(caFile, localhostCertificate);
    const script = join(HERE, 'python/vault_client.py');
    const args = [script, vault.address, caFile, 'the role ID', 'the secret ID', jwt];
    const { status, stdout, stderr } = await runProgram(python.file, args);
    await rm(folder, { recursive: true, force: true });
    assert.equal(status, 0, stderr);
    const found = JSON.parse(stdout);
    const { user } = found.database;
    assert.match(user, /^v-test-edge-/);
    // Times may have run on by a second or more on a busy machine: less than was given, never more.
    const near = (seconds: number, most: number) => seconds > 0 && seconds <= most;
    assert.ok(near(found.tokens.mine[1], 300) && near(found.database.known[2], 120), stdout);
    assert.deepEqual(found, {
      wrong: ['InvalidRequest', 'invalid role or secret ID'],
      nobody: ['Forbidden', 'permission denied'],
      login: [true, true, 300],
      tokens: { mine: [true, found.tokens.mine[1], ['default']], renewed: [true, 60] },
      key_value: {
        newest: [{ password: 'second' }, 2],
        oldest: [{ password: 'first' }, 1],
        gone: found.key_value.gone,
        told: [null, true],
        destroyed: [true, false],
        stale: ['InvalidRequest', 'check-and-set parameter did not match the current version'],
        none: ['InvalidPath'],
      },
      database: {
        lease: [true, true, 60],
        data: ['password', 'username'],
        user,
        renewed: [true, true, 120],
        known: [true, true, found.database.known[2]],
        revoked: ['InvalidRequest', 'lease not found'],
        static: [
          'fixed',
          3600,
          ['last_vault_rotation', 'password', 'rotation_period', 'ttl', 'username'],
        ],
        unknown: ['InvalidRequest', 'unknown role: other'],
      },
      elsewhere: ['InvalidPath', 'no handler for route "other/mount". route entry not found.'],
      ended: found.ended,
      by_jwt: 0,
      denied: ['Forbidden', 'permission denied'],
    });
    assert.equal(found.key_value.gone[0], 'InvalidPath');
    assert.equal(found.ended[0], 'Forbidden');
    const rows = await server.exec(`select rolname from pg_roles where rolname = '${user}'`);
    assert.deepEqual(rows, []);
  }).timeout(120_000);
});
