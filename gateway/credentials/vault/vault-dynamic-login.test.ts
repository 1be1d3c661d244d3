import assert from 'node:assert/strict';
import { setMaxListeners } from 'node:events';
import { FakeClock } from '../../../test/fakes/fake-clock.ts';
import type { FakeDatabase } from '../../../test/fakes/vault-database.ts';
import { onEachPostgres } from '../../../test/fixtures/each-postgres.ts';
import { connectAs } from '../../../test/fixtures/shop-database.ts';
import { VaultWorld } from '../../../test/fixtures/vault-world.ts';
import type { Login, LoginSource } from '../login-source.ts';

const CREATION = [
  `CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE edge;`,
];
const RENEW = 'POST sys/leases/renew';
const REVOKE = 'POST sys/leases/revoke';
const never = new AbortController().signal;
setMaxListeners(0, never);

onEachPostgres('a login that the database engine of Vault makes', (server) => {
  let clock: FakeClock;
  let world: VaultWorld;
  let database: FakeDatabase;
  before(() => server().exec('create role edge'));
  beforeEach(async () => {
    clock = new FakeClock(new Date());
    await begin();
  });
  afterEach(async () => {
    await world[Symbol.asyncDispose]();
    for (const password of database.passwords) assert.ok(!world.logged.includes(password));
    // Nobody gives back what a test kept from it.
    for (const name of await accounts()) await server().exec(`drop role "${name}"`);
  });

  async function begin(token: { ttlSeconds?: number; paths?: string[] } = {}): Promise<void> {
    world = await VaultWorld.start({ clock, token });
    database = world.vault.root.enableDatabase('database', {
      exec: (sql) => server().exec(sql),
      roles: { edge: { creation: CREATION, ttlSeconds: 600, maxTtlSeconds: 1500 } },
    });
  }

  const dynamic = (role = 'edge'): LoginSource =>
    world.source({
      case: 'vaultDatabase',
      value: { server: world.server(), mount: 'database', role, static: false },
    });

  async function accounts(): Promise<string[]> {
    const rows = await server().exec("select rolname from pg_roles where rolname like 'v-test-%'");
    return rows.map(({ rolname }) => String(rolname));
  }

  async function works({ user, password }: Login): Promise<boolean> {
    const client = await connectAs(server(), { user, password: password ?? '' }).catch(
      () => undefined,
    );
    if (client === undefined) return false;
    const { rows } = await client.query("select pg_has_role('edge', 'usage') as is");
    await client.end();
    return rows[0].is === true;
  }

  /** Lets time pass until another login is there. */
  async function successor(source: LoginSource, of: Login): Promise<Login> {
    for (;;) {
      const login = await source.current(never);
      if (login.user !== of.user) return login;
      await world.pass(1000);
    }
  }

  it('is an account of its own, which is renewed two thirds into its time', async () => {
    const source = dynamic();
    const login = await source.current(never);
    assert.deepEqual(await accounts(), [login.user]);
    assert.ok(await works(login));
    await world.pass(399_000);
    assert.equal(world.vault.countOf(RENEW), 0);
    await world.until(RENEW);
    assert.equal(await source.current(never), login);
    assert.equal(source.isOver(login), false);
    const [row] = await server().exec(
      `select extract(epoch from rolvaliduntil) as until from pg_roles where rolname = '${login.user}'`,
    );
    const left = Number(row?.until) - clock.now().getTime() / 1000;
    assert.ok(left > 590 && left < 610, String(left));
  });

  it('gives way to a new account before its maximum, and is given back once that one has served', async () => {
    const source = dynamic();
    const first = await source.current(never);
    const second = await successor(source, first);
    assert.ok((await works(first)) && (await works(second)));
    assert.deepEqual([source.isOver(first), source.isOver(second)], [true, false]);
    assert.equal(world.vault.countOf(REVOKE), 0);
    source.accepted(second);
    await world.until(REVOKE);
    assert.deepEqual(await accounts(), [second.user]);
  });

  it('comes back if the backend refuses its successor, until another one is there', async () => {
    const source = dynamic();
    const first = await source.current(never);
    const second = await successor(source, first);
    source.rejected(second);
    assert.equal(await source.current(never), first);
    assert.deepEqual([source.isOver(first), source.isOver(second)], [false, true]);
    assert.match(world.logged, /the backend refuses its new login, the one before serves on/);
    const third = await successor(source, first);
    assert.notEqual(third.user, second.user);
    source.accepted(third);
    await world.until(REVOKE, 2);
    assert.deepEqual(await accounts(), [third.user]);
  });

  it('is made anew when the backend refuses it though it served before', async () => {
    const source = dynamic();
    const first = await source.current(never);
    source.accepted(first);
    await server().exec(`drop role "${first.user}"`);
    assert.equal(await works(first), false);
    source.rejected(first);
    const second = await source.current(never);
    assert.ok(await works(second));
  });

  it('serves on while Vault is away, but never beyond its lease', async () => {
    const source = dynamic();
    const login = await source.current(never);
    world.vault.isSealed = true;
    await world.pass(590_000);
    assert.equal(await source.current(never), login);
    assert.match(world.logged, /the last one serves meanwhile/);
    await world.pass(45_000);
    await assert.rejects(source.current(never), { code: 'UNAVAILABLE' });
    assert.equal(source.isOver(login), true);
    assert.match(world.logged, /there is none that serves/);
    world.vault.isSealed = false;
    const next = await untilServed(source);
    assert.notEqual(next.user, login.user);
    // Vault took the first one back meanwhile, by itself.
    assert.deepEqual(await accounts(), [next.user]);
  });

  async function untilServed(source: LoginSource): Promise<Login> {
    for (;;) {
      const login = await source.current(never).catch(() => undefined);
      if (login !== undefined) return login;
      await world.pass(1000);
    }
  }

  it('ends with the token that made it, so a new token brings a new account', async () => {
    await world[Symbol.asyncDispose]();
    await begin({ ttlSeconds: 300 });
    world.enableAppRole(1000, { ttlSeconds: 300, renewable: false });
    const source = dynamic();
    const first = await source.current(never);
    const second = await successor(source, first);
    assert.equal(world.vault.countOf('POST auth/approle/login'), 2);
    assert.ok((await works(first)) && (await works(second)));
    source.accepted(second);
    await world.until(REVOKE);
    assert.deepEqual(await accounts(), [second.user]);
  });

  it('gives back its accounts and its token when it is disposed', async () => {
    const source = dynamic();
    const first = await source.current(never);
    const second = await successor(source, first);
    assert.deepEqual((await accounts()).sort(), [first.user, second.user].sort());
    await source[Symbol.asyncDispose]();
    assert.deepEqual(await accounts(), []);
    assert.deepEqual(world.vault.root.leases.ids, []);
    assert.deepEqual(world.vault.root.tokens.living, []);
    await assert.rejects(source.current(never), { code: 'UNAVAILABLE' });
  });

  it('gives them back with its token where the policy lets it revoke no lease', async () => {
    await world[Symbol.asyncDispose]();
    await begin({ paths: ['database/creds/edge'] });
    const source = dynamic();
    await source.current(never);
    await source[Symbol.asyncDispose]();
    assert.deepEqual(await accounts(), []);
    assert.match(world.logged, /a lease could not be revoked: it ends by itself/);
  });

  it('does not wait for Vault without end when it is disposed', async () => {
    const source = dynamic();
    await source.current(never);
    world.vault.fault = () => undefined;
    await source[Symbol.asyncDispose]();
  });

  it('tells that the role is unknown, or that the database refuses it', async () => {
    const refused = async (role: string): Promise<string> => {
      const error = await dynamic(role)
        .current(never)
        .catch((reason: unknown) => reason);
      assert.ok(error instanceof Error);
      return String(error.cause);
    };
    assert.match(await refused('other'), /database\/creds\/other: status 400, unknown role/);
    await server().exec('alter role edge rename to edge2');
    const said = await refused('edge').finally(() =>
      server().exec('alter role edge2 rename to edge'),
    );
    // Not in its own words: they could hold the statement with its password.
    assert.match(said, /database\/creds\/edge: status 500$/);
  });
});
