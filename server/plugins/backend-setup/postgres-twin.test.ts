import assert from 'node:assert/strict';
import { scramVerifier, USUAL_ITERATIONS } from '../../../runtime/scram-verifier.ts';
import { onEachPostgres } from '../../../test/fixtures/each-postgres.ts';
import type { TestPostgres } from '../../../test/fixtures/postgres.ts';
import {
  connectAs,
  LOGIN,
  LOGIN_PASSWORD,
  openSession,
  planShop,
  SHOP_READER,
  SHOP_SQL,
  setUpShop,
} from '../../../test/fixtures/shop-database.ts';

const TWIN = `${LOGIN}_b`;
const PASSWORD = 'a password of the twin';
const SECRET = { secret: 'shop-login' };

onEachPostgres('a login and its twin', (server) => {
  before(async () => {
    await server().exec(SHOP_SQL);
    await setUpShop(server(), [SHOP_READER], SECRET);
  });

  const asLogin = () => connectAs(server(), { user: LOGIN, password: LOGIN_PASSWORD });
  const asTwin = (password = PASSWORD) => connectAs(server(), { user: TWIN, password });
  const verifier = (password = PASSWORD) => scramVerifier(password, USUAL_ITERATIONS);
  const SET = 'select writ.set_twin_password($1)';
  const retire = 'select writ.retire_twin($1) as live';

  /** The twin's password is set. */
  const setTwin = async () => {
    await using login = await asLogin();
    await login.query(SET, [verifier()]);
  };
  const retireTwin = async () => {
    await using login = await asLogin();
    await login.query(retire, [true]);
  };
  const drift = (of: TestPostgres) => of.exec('select * from writ.drift()');

  it('leaves the twin unable to log in until its password is set, and after it was taken', async () => {
    await assert.rejects(asTwin(), { code: '28P01' });
    await setTwin();
    {
      await using twin = await asTwin();
      assert.equal((await twin.query('select 1 as one')).rows[0]?.one, 1);
      await using login = await asLogin();
      assert.deepEqual((await login.query(retire, [false])).rows, [{ live: 1 }]);
      assert.equal((await twin.query('select 1 as one')).rows[0]?.one, 1, 'it is not ended');
    }
    await using login = await asLogin();
    for (let live = 1; live > 0; )
      live = Number((await login.query(retire, [false])).rows[0]?.live);
    await assert.rejects(asTwin(), { code: '28P01' });
  });

  it('gives both the same powers over sessions', async () => {
    await setTwin();
    await using opened = await openSession(server(), SHOP_READER);
    const { rows } = await opened.query('select session_user as role');
    await using twin = await asTwin();
    const listed = await twin.query('select role from writ.list_sessions()');
    assert.deepEqual(listed.rows, rows);
    await twin.query(`select writ.renew_leases('x', now())`);
    await twin.query('select writ.seal_session($1)', [rows[0]?.role]);
    await twin.query('select writ.close_session($1)', [rows[0]?.role]);
    assert.deepEqual((await twin.query('select role from writ.list_sessions()')).rows, []);
    await retireTwin();
  });

  it('lets the twin do the same to the login, and ends it by force', async () => {
    await setTwin();
    await using twin = await asTwin();
    await using login = await asLogin();
    await twin.query(retire, [true]);
    await assert.rejects(login.query('select 1'));
    await assert.rejects(asLogin(), { code: '28P01' });
    await twin.query(SET, [verifier(LOGIN_PASSWORD)]);
    await using again = await asLogin();
    await again.query(retire, [true]);
    await assert.rejects(asTwin(), { code: '28P01' });
  });

  it('takes nothing for a password but a verifier of its own form', async () => {
    await using login = await asLogin();
    const other = [PASSWORD, scramVerifier(PASSWORD), `md5${'0'.repeat(32)}`, '', null];
    for (const text of other) await assert.rejects(login.query(SET, [text]), { code: '22023' });
    await assert.rejects(asTwin(), { code: '28P01' });
  });

  it('P1 is open to nobody else, and a session cannot call it', async () => {
    await using session = await openSession(server(), SHOP_READER);
    await assert.rejects(session.query(SET, [verifier()]), { code: '42501' });
    await assert.rejects(session.query(retire, [true]), { code: '42501' });
    await using superuser = await connectAs(server(), superuserOf(server()));
    await assert.rejects(superuser.query(retire, [true]), /no twin/);
  });

  it('is no drift, whichever of the two logs in', async () => {
    assert.deepEqual(await drift(server()), []);
    await setTwin();
    assert.deepEqual(await drift(server()), []);
    await retireTwin();
  });

  it('keeps the twin and its password when the plan runs again', async () => {
    await setTwin();
    const plan = await planShop(server(), [SHOP_READER], SECRET);
    await server().exec(plan.sql);
    {
      await using twin = await asTwin();
      await twin.query(`select writ.renew_leases('x', now())`);
    }
    await retireTwin();
  });

  it('goes when the login is no secret of the vault any more, or with the undo script', async () => {
    await setTwin();
    const plain = await planShop(server(), [SHOP_READER]);
    await server().exec(plain.sql);
    await assert.rejects(asTwin(), { code: '28P01' });
    await using login = await asLogin();
    await assert.rejects(login.query(SET, [verifier()]), { code: '42883' });
    assert.deepEqual(await drift(server()), []);
    const plan = await planShop(server(), [SHOP_READER], SECRET);
    await server().exec(plan.sql);
    await login.query(SET, [verifier()]);
    await login.end();
    await server().exec(plan.undoSql);
    const left = await server().exec(`select rolname from pg_roles where rolname ~ '^writ_'`);
    assert.deepEqual(left, []);
  });
});

function superuserOf(server: TestPostgres): { user: string; password: string } {
  const { username, password } = new URL(server.superuserUrl);
  return { user: username, password };
}
