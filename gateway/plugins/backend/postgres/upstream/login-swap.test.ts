import assert from 'node:assert/strict';
import { parseTrustDomain, SpiffeId } from '../../../../../identity/spiffe-id.ts';
import { systemClock } from '../../../../../runtime/clock.ts';
import { FakeClock } from '../../../../../test/fakes/fake-clock.ts';
import { onEachPostgres } from '../../../../../test/fixtures/each-postgres.ts';
import {
  connectAs,
  groupRoleOf,
  LOGIN,
  planShop,
  rolesThatCanLogIn,
  SHOP_READER,
  SHOP_SQL,
  shopBackend,
} from '../../../../../test/fixtures/shop-database.ts';
import { VaultWorld } from '../../../../../test/fixtures/vault-world.ts';
import { SessionRoles } from './roles.ts';

/** What docs/credentials.md tells to configure. */
const CREATION = [
  `CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE ${LOGIN};`,
];
const REVOKE = 'POST sys/leases/revoke';
const request = { group: groupRoleOf(SHOP_READER), sessionId: 'a session' };
const never = new AbortController().signal;

onEachPostgres("sessions under a gateway's login that is swapped", (server) => {
  it('go on, and are closed by the login that follows', async () => {
    await server().exec(SHOP_SQL);
    const { sql } = await planShop(server(), [SHOP_READER]);
    await server().exec(sql);
    const clock = new FakeClock(new Date());
    await using world = await VaultWorld.start({ clock, token: { ttlSeconds: 0 } });
    world.vault.root.enableDatabase('database', {
      exec: (statements) => server().exec(statements),
      roles: { writ: { creation: CREATION, ttlSeconds: 600, maxTtlSeconds: 1500 } },
    });
    const source = world.source({
      case: 'vaultDatabase',
      value: { server: world.server(), mount: 'database', role: 'writ', static: false },
    });
    const { log } = world.parts;
    const gatewayId = SpiffeId.fromSegments(
      parseTrustDomain('example.org'),
      'writ',
      'gateway',
      'g',
    );
    const backend = shopBackend(server());
    await using roles = new SessionRoles({ backend, source, gatewayId, log, clock: systemClock });

    const enter = async () => {
      const { role, password } = await roles.open(request);
      const session = await connectAs(server(), { user: role, password });
      await roles.seal(role);
      const read = async () => (await session.query('select name from customers')).rowCount;
      assert.equal(await read(), 2);
      return { role, read, [Symbol.asyncDispose]: () => session[Symbol.asyncDispose]() };
    };
    const users = async () => {
      const rows = await server().exec(
        "select distinct coalesce(usename, 'nobody') as name from pg_stat_activity where application_name = 'writ-gateway'",
      );
      return rows.map(({ name }) => name);
    };

    const first = await source.current(never);
    await using before = await enter();
    assert.deepEqual(await users(), [first.user]);
    while ((await source.current(never)) === first) await world.pass(1000);
    const second = await source.current(never);
    assert.notEqual(second.user, first.user);
    assert.equal(await before.read(), 2);

    await using after = await enter();
    await world.until(REVOKE);
    const left = await server().exec("select rolname from pg_roles where rolname like 'v-test-%'");
    assert.deepEqual(left, [{ rolname: second.user }]);
    assert.deepEqual([await before.read(), await after.read()], [2, 2]);

    await Promise.all([before, after].map(({ role }) => roles.close(role)));
    await Promise.all([before, after].map(({ read }) => assert.rejects(read())));
    assert.deepEqual(await server().exec('select * from writ.session'), []);
    assert.deepEqual(await rolesThatCanLogIn(server()), []);
    assert.deepEqual(
      await server().exec("select rolname from pg_roles where rolname ~ '^writ_[0-9a-f]{16}$'"),
      [],
    );
    // The role that setup gave its rights to never logs in itself.
    const [login] = await server().exec(
      `select rolcanlogin from pg_roles where rolname = '${LOGIN}'`,
    );
    assert.equal(login?.rolcanlogin, false);
  });
});
