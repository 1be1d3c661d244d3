import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { scramVerifier } from '../../../runtime/scram-verifier.ts';
import { onEachPostgres } from '../../../test/fixtures/each-postgres.ts';
import {
  connectAs,
  groupRoleOf,
  LOGIN,
  LOGIN_PASSWORD,
  SHOP_READER,
  SHOP_SQL,
  setUpShop,
} from '../../../test/fixtures/shop-database.ts';

onEachPostgres('G4 the role of a session', (server) => {
  before(async () => {
    await server().exec(SHOP_SQL);
    await setUpShop(server(), [SHOP_READER]);
  });

  /** Opens one as a gateway does; `lease` is what its session has left. */
  async function open(lease: string) {
    const role = `writ_${randomBytes(8).toString('hex')}`;
    const password = randomBytes(16).toString('hex');
    const words = [role, scramVerifier(password), groupRoleOf(SHOP_READER), lease];
    await asGateway(
      `writ.open_session($1, $2, $3, clock_timestamp() + $4::interval, 'spiffe://example.org/g')`,
      words,
    );
    return { user: role, password };
  }

  async function asGateway(call: string, words: readonly string[]): Promise<void> {
    await using gateway = await connectAs(server(), { user: LOGIN, password: LOGIN_PASSWORD });
    await gateway.query(`select ${call}`, [...words]);
  }

  const isRefused = (login: { user: string; password: string }) =>
    assert.rejects(connectAs(server(), login), { code: /^28(P01|000)$/ });

  it('can log in for a minute at most, and no longer than its session has left', async () => {
    for (const [lease, atMost] of [
      ['1 day', '1 minute'],
      ['20 seconds', '20 seconds'],
    ] as const) {
      const { user } = await open(lease);
      const [found] = await server().exec(
        `select rolvaliduntil <= clock_timestamp() + interval '${atMost}' as short from pg_roles where rolname = '${user}'`,
      );
      assert.deepEqual(found, { short: true });
      await asGateway('writ.close_session($1)', [user]);
    }
  });

  it('is refused with its own password after the end, once it is sealed, and once it is closed', async () => {
    const late = await open('-1 second');
    await isRefused(late);
    await asGateway('writ.close_session($1)', [late.user]);
    const login = await open('1 minute');
    await using first = await connectAs(server(), login);
    await asGateway('writ.seal_session($1)', [login.user]);
    await isRefused(login);
    assert.equal((await first.query('select 1 as one')).rows[0].one, 1);
    await asGateway('writ.close_session($1)', [login.user]);
    await isRefused(login);
  });
});
