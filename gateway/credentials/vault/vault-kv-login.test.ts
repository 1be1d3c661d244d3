import assert from 'node:assert/strict';
import { setMaxListeners } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FakeClock } from '../../../test/fakes/fake-clock.ts';
import { VaultWorld } from '../../../test/fixtures/vault-world.ts';
import type { LoginSource } from '../login-source.ts';

const PASSWORD = 'correct horse battery staple';
const READ = 'GET secret/data/db/shop';
const LOGIN = 'POST auth/approle/login';
const never = new AbortController().signal;
setMaxListeners(0, never);

describe('a login in a key-value secret of Vault', () => {
  let clock: FakeClock;
  let world: VaultWorld;
  let put: (password: unknown) => void;
  beforeEach(async () => {
    clock = new FakeClock();
    world = await VaultWorld.start({ clock });
    const kv = world.vault.root.enableKv('secret');
    put = (password) => void kv.put('db/shop', { password, user: 'ignored' });
    put(PASSWORD);
  });
  afterEach(() => world[Symbol.asyncDispose]());

  type Server = ReturnType<VaultWorld['server']>;
  const kv = (change: Server = {}, more: object = {}): LoginSource =>
    world.source({
      case: 'vaultKv',
      value: {
        server: world.server(change),
        ...{ mount: 'secret', path: 'db/shop', field: 'password' },
        ...more,
      },
    });

  async function passwordOf(source: LoginSource): Promise<string | undefined> {
    return (await source.current(never)).password;
  }

  const unavailable = (pattern: RegExp) => (error: unknown) => {
    assert.ok(error instanceof Error);
    assert.equal((error as { code?: string }).code, 'UNAVAILABLE');
    assert.match(String(error.cause), pattern);
    return true;
  };

  it('is the newest version of its field, with the user that the backend names', async () => {
    assert.deepEqual(await kv().current(never), { user: 'writ_gateway', password: PASSWORD });
    put('another');
    assert.equal(await passwordOf(kv()), 'another');
  });

  it('is kept, and asked for once however many ask', async () => {
    const source = kv();
    await Promise.all(Array.from({ length: 50 }, () => source.current(never)));
    await source.current(never);
    assert.equal(world.vault.countOf(READ), 1);
    assert.equal(world.vault.countOf(LOGIN), 1);
  });

  it('is read again in time, and at once when the backend refuses it', async () => {
    const source = kv();
    await passwordOf(source);
    put('second');
    await world.pass(5 * 60_000);
    assert.equal(await passwordOf(source), 'second');
    put('third');
    source.rejected(await source.current(never));
    assert.equal(await passwordOf(source), 'third');
  });

  it('is read at most once a second however often the backend refuses it', async () => {
    const source = kv();
    for (let attempt = 0; attempt < 20; attempt += 1) source.rejected(await source.current(never));
    assert.equal(world.vault.countOf(READ), 2);
    await world.pass(1000);
    await source.current(never);
    assert.equal(world.vault.countOf(READ), 3);
  });

  it('serves on while the server is away, and is read when it is back', async () => {
    const source = kv();
    await passwordOf(source);
    world.vault.isSealed = true;
    source.rejected(await source.current(never));
    assert.equal(await passwordOf(source), PASSWORD);
    assert.match(world.logged, /"backend":"shop".*status 503, Vault is sealed/);
    assert.match(world.logged, /the last one serves meanwhile/);
    world.vault.isSealed = false;
    put('second');
    while ((await passwordOf(source)) !== 'second') await world.pass(1000);
  });

  it('tells what is wrong, and not the secret', async () => {
    const cases: [source: LoginSource, pattern: RegExp][] = [
      [kv({}, { path: 'db/none' }), /^Error: .*|VaultError: secret\/data\/db\/none: status 404/],
      [kv({}, { field: 'pass' }), /secret\/data\/db\/shop: field pass holds no text/],
      [kv({}, { field: '__proto__' }), /field __proto__ holds no text/],
      [kv({}, { mount: 'other' }), /status 404, no handler for route/],
      [kv({ namespace: 'team-b' }), /status 404, no handler for route/],
      [kv({ address: 'http://127.0.0.1:1' }), /no answer: connect ECONNREFUSED/],
      [kv({ address: 'http://192.0.2.1:8200' }), /plain http is for this host alone/],
    ];
    for (const [source, pattern] of cases) {
      await assert.rejects(source.current(never), unavailable(pattern), String(pattern));
    }
    for (const odd of [12, '', null, { nested: PASSWORD }, 'with \0']) {
      put(odd);
      await assert.rejects(kv().current(never), unavailable(/holds no text/));
    }
    assert.ok(!world.logged.includes(PASSWORD));
    assert.ok(!world.logged.includes(world.secretId));
  });

  it('is refused where the role, the secret ID or the policy is wrong', async () => {
    await writeFile(world.secretIdFile, 'another');
    await assert.rejects(kv().current(never), unavailable(/status 400, invalid role or secret ID/));
    await writeFile(world.secretIdFile, '');
    await assert.rejects(kv().current(never), unavailable(/secret-id is empty/));
    for (const odd of ['-----BEGIN PRIVATE KEY-----\nMIGH', 'a b', 'x'.repeat(4097)]) {
      await writeFile(world.secretIdFile, odd);
      await assert.rejects(kv().current(never), unavailable(/holds something else than one token/));
    }
    await writeFile(world.secretIdFile, world.secretId);
    world.enableAppRole(1000, { paths: ['secret/data/other'] });
    await assert.rejects(kv().current(never), unavailable(/status 403, permission denied/));
    // A policy that refuses costs no further login.
    assert.equal(world.vault.countOf(LOGIN), 2);
  });

  it('comes from another namespace where the backend names one', async () => {
    const team = world.vault.namespace('teams/a');
    team.enableKv('secret').put('db/shop', { password: 'of the team' });
    const token = team.tokens.create({ ttlSeconds: 0, paths: ['secret/*'] });
    const file = join(world.directory, 'token');
    await writeFile(file, `${token.text}\n`);
    const auth = { case: 'tokenFile', value: file } as const;
    assert.equal(await passwordOf(kv({ namespace: 'teams/a', auth })), 'of the team');
    await assert.rejects(kv({ auth }).current(never), unavailable(/invalid token/));
  });

  it('stops waiting when the one who waits gives up', async () => {
    world.vault.fault = () => undefined;
    const giveUp = new AbortController();
    const waiting = kv().current(giveUp.signal);
    giveUp.abort(new Error('enough'));
    await assert.rejects(waiting, /enough/);
  });

  it('takes no answer that is too long, no JSON, cut off, or another place', async () => {
    const answers: [
      (response: Parameters<NonNullable<typeof world.vault.fault>>[1]) => void,
      RegExp,
    ][] = [
      [(response) => response.end('x'.repeat(300 * 1024)), /longer than 256 KiB/],
      [(response) => response.end(`<html>${PASSWORD}</html>`), /status 200/],
      [(response) => response.end('{"auth":{"client_token":5}}'), /not as documented: auth\./],
      [
        (response) => response.writeHead(500).end(`{"errors":["${PASSWORD}"]}`),
        /login: status 500$/,
      ],
      [
        (response) => response.writeHead(307, { location: 'https://192.0.2.1/' }).end(),
        /status 307, a standby/,
      ],
      [
        (response) => {
          response.writeHead(200, { 'content-length': '100' }).write('{');
          response.destroy();
        },
        /no answer: /,
      ],
    ];
    for (const [answer, pattern] of answers) {
      world.vault.fault = (_, response) => answer(response);
      await assert.rejects(kv().current(never), unavailable(pattern), String(pattern));
    }
    assert.ok(!world.logged.includes(PASSWORD));
  });
});
