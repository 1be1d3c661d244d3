import assert from 'node:assert/strict';
import { setMaxListeners } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { FakeClock } from '../../../test/fakes/fake-clock.ts';
import { localhostCertificate, localhostKey } from '../../../test/fixtures/localhost-tls.ts';
import { tlsAuthority } from '../../../test/fixtures/tls-authority.ts';
import { VaultWorld, type VaultWorldOptions } from '../../../test/fixtures/vault-world.ts';
import type { LoginSource } from '../login-source.ts';

const PASSWORD = 'correct horse battery staple';
const LOGIN = 'POST auth/approle/login';
const RENEW = 'POST auth/token/renew-self';
const READ = 'GET secret/data/db/shop';
const SUBJECT = 'spiffe://example.org/writ/gateway/gw-1';
const never = new AbortController().signal;
setMaxListeners(0, never);

describe("the gateway's token at Vault", () => {
  let clock: FakeClock;
  let world: VaultWorld;
  beforeEach(() => {
    clock = new FakeClock();
  });
  afterEach(() => world[Symbol.asyncDispose]());

  async function begin(options: Partial<VaultWorldOptions> = {}): Promise<void> {
    world = await VaultWorld.start({ clock, ...options });
    world.vault.root.enableKv('secret').put('db/shop', { password: PASSWORD });
  }

  const source = (change: ReturnType<VaultWorld['server']> = {}): LoginSource =>
    world.source({
      case: 'vaultKv',
      value: { server: world.server(change), mount: 'secret', path: 'db/shop', field: 'password' },
    });

  it('is renewed two thirds into its time, without a new login', async () => {
    await begin({ token: { ttlSeconds: 120, maxTtlSeconds: 3600 } });
    await source().current(never);
    await world.until(RENEW, 3);
    assert.equal(world.vault.countOf(LOGIN), 1);
    assert.equal(world.vault.root.tokens.living.length, 1);
  });

  it('is replaced by a new login near its maximum, or where it cannot be renewed', async () => {
    await begin({ token: { ttlSeconds: 120, maxTtlSeconds: 180 } });
    await source().current(never);
    await world.until(LOGIN, 2);
    assert.ok(world.vault.countOf(RENEW) >= 1);
    await world[Symbol.asyncDispose]();
    await begin({ token: { ttlSeconds: 120, renewable: false } });
    await source().current(never);
    await world.until(LOGIN, 3);
    assert.equal(world.vault.countOf(RENEW), 0);
  });

  it('is replaced at once where it was revoked', async () => {
    await begin();
    const login = source();
    await login.current(never);
    const { tokens } = world.vault.root;
    for (const token of tokens.living) await tokens.revoke(token);
    login.rejected(await login.current(never));
    await login.current(never);
    assert.equal(world.vault.countOf(LOGIN), 2);
    assert.doesNotMatch(world.logged, /failed/);
  });

  it('ends with the source', async () => {
    await begin();
    const login = source();
    await login.current(never);
    await login[Symbol.asyncDispose]();
    assert.deepEqual(world.vault.root.tokens.living, []);
  });

  it('is read from its file at each login, kept alive there, and left to its writer', async () => {
    await begin();
    const file = join(world.directory, 'token');
    const { tokens } = world.vault.root;
    const first = tokens.create({ ttlSeconds: 120, maxTtlSeconds: 180, paths: ['secret/*'] });
    const second = tokens.create({ ttlSeconds: 0, paths: ['secret/*'] });
    await writeFile(file, first.text);
    const login = source({ auth: { case: 'tokenFile', value: file } });
    await login.current(never);
    await world.until(RENEW);
    await writeFile(file, `${second.text}\n`);
    await tokens.revoke(first);
    await world.until(READ, world.vault.countOf(READ) + 1);
    await login[Symbol.asyncDispose]();
    assert.deepEqual(tokens.living, [second]);
    for (const { text } of [first, second]) assert.ok(!world.logged.includes(text));
  });

  it('is given for the JWT-SVID of the gateway, to its role and audience alone', async () => {
    const { publicKey, privateKey } = await generateKeyPair('ES256');
    const jwk = { ...(await exportJWK(publicKey)), alg: 'ES256' };
    const sent: string[] = [];
    await begin({
      async jwtSvid(audience) {
        const token = await new SignJWT()
          .setProtectedHeader({ alg: 'ES256' })
          .setSubject(SUBJECT)
          .setAudience(audience)
          .setExpirationTime('5m')
          .sign(privateKey);
        sent.push(token);
        return token;
      },
    });
    const role = (subject: string) => ({
      ...{ audience: 'vault', subject, keys: () => ({ keys: [jwk] }) },
      token: { ttlSeconds: 300, paths: ['secret/*'] },
    });
    const roles = { gateway: role(SUBJECT), other: role('spiffe://example.org/other') };
    world.vault.root.enableAuth('spiffe', { type: 'jwt', roles });
    const by = (name: string, audience = 'vault') =>
      source({ auth: { case: 'jwt', value: { mount: 'spiffe', role: name, audience } } });
    assert.equal((await by('gateway').current(never)).password, PASSWORD);
    for (const wrong of [by('other'), by('gateway', 'elsewhere'), by('none')]) {
      await assert.rejects(wrong.current(never), (error: Error) => {
        assert.match(String(error.cause), /auth\/spiffe\/login: status 400/);
        return true;
      });
    }
    for (const token of sent) assert.ok(!world.logged.includes(token));
  });

  it('is told that the agent gives no JWT-SVID', async () => {
    await begin();
    const auth = {
      case: 'jwt',
      value: { mount: 'jwt', role: 'gateway', audience: 'vault' },
    } as const;
    await assert.rejects(source({ auth }).current(never), (error: Error) => {
      assert.match(String(error.cause), /no agent here/);
      return true;
    });
  });

  it('goes over TLS to a server that the authorities of ca_file prove, and to no other', async () => {
    const key = localhostKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    await begin({ tls: { cert: localhostCertificate, key } });
    const file = async (name: string, text: string) => {
      const path = join(world.directory, name);
      await writeFile(path, text);
      return path;
    };
    const caFile = await file('ca.pem', localhostCertificate);
    assert.equal((await source({ caFile }).current(never)).password, PASSWORD);
    const { port } = new URL(world.vault.address);
    const cases: [change: ReturnType<VaultWorld['server']>, pattern: RegExp][] = [
      [{ caFile: await file('none.pem', '') }, /PEM|certificate/i],
      [{ caFile: await file('other.pem', (await tlsAuthority()).ca) }, /self-signed|verify/],
      [{ caFile: '/nonexistent/ca.pem' }, /ENOENT/],
      [{ caFile: '' }, /ENOENT/],
      [{ caFile, address: `https://127.0.0.2:${port}` }, /ECONNREFUSED|altnames/],
      [{ address: `http://127.0.0.1:${port}` }, /no answer|status 400/],
    ];
    for (const [change, pattern] of cases) {
      await assert.rejects(source(change).current(never), (error: Error) => {
        assert.match(String(error.cause), pattern);
        return true;
      });
    }
    assert.equal(world.vault.countOf(LOGIN), 1);
  });
});
