import assert from 'node:assert/strict';
import { setMaxListeners } from 'node:events';
import { FakeClock } from '../../../test/fakes/fake-clock.ts';
import type { FakeDatabase } from '../../../test/fakes/vault-database.ts';
import { onEachPostgres } from '../../../test/fixtures/each-postgres.ts';
import { VaultWorld } from '../../../test/fixtures/vault-world.ts';
import { ControlConnections } from '../../plugins/backend/postgres/upstream/control.ts';
import type { LoginSource } from '../login-source.ts';

const READ = 'GET database/static-creds/edge';
const never = new AbortController().signal;
setMaxListeners(0, never);

onEachPostgres('a login whose password the database engine of Vault rotates', (server) => {
  let clock: FakeClock;
  let world: VaultWorld;
  let database: FakeDatabase;
  before(() => server().exec('create role edge login'));
  beforeEach(async () => {
    clock = new FakeClock(new Date());
    world = await VaultWorld.start({ clock });
    database = world.vault.root.enableDatabase('database', {
      exec: (sql) => server().exec(sql),
      staticRoles: { edge: { username: 'edge', rotationSeconds: 120 } },
    });
  });
  afterEach(async () => {
    await world[Symbol.asyncDispose]();
    for (const password of database.passwords) assert.ok(!world.logged.includes(password));
  });

  const rotated = (): LoginSource =>
    world.source({
      case: 'vaultDatabase',
      value: { server: world.server(), mount: 'database', role: 'edge', static: true },
    });

  it('is read again a little after the time that the server tells', async () => {
    const source = rotated();
    const first = await source.current(never);
    assert.deepEqual([first.user, first.password], ['edge', database.passwords.at(-1)]);
    await world.pass(120_000);
    assert.equal(world.vault.countOf(READ), 1);
    await world.until(READ, 2);
    assert.equal((await source.current(never)).password, database.passwords.at(-1));
    assert.equal(source.isOver(first), false);
  });

  it('is read at once when the backend refuses it, so that nobody sees a rotation by hand', async () => {
    const { host, port } = server();
    const source = rotated();
    await using control = new ControlConnections({ host, port, database: 'postgres' }, source);
    const pid = async () => (await control.query('select pg_backend_pid() as pid'))[0]?.pid;
    const first = await pid();
    await database.rotate('edge');
    assert.equal(await pid(), first, 'what is logged in stays');
    await server().exec(
      "select pg_terminate_backend(pid, 1000) from pg_stat_activity where usename = 'edge'",
    );
    assert.notEqual(await pid().catch(pid), first);
    assert.equal(world.vault.countOf(READ), 2);
  });
});
