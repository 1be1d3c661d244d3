import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseTrustDomain, SpiffeId } from '../../../../../identity/spiffe-id.ts';
import { systemClock } from '../../../../../runtime/clock.ts';
import { createLogger } from '../../../../../runtime/log.ts';
import { onEachPostgres } from '../../../../../test/fixtures/each-postgres.ts';
import {
  connectAs,
  groupRoleOf,
  LOGIN,
  LOGIN_PASSWORD,
  rolesThatCanLogIn,
  SHOP_READER,
  SHOP_SQL,
  setUpShop,
  shopBackend,
} from '../../../../../test/fixtures/shop-database.ts';
import { fileLogin } from '../../../../credentials/local-login.ts';
import { SessionRoles } from './roles.ts';

const GROUP = groupRoleOf(SHOP_READER);
const SESSION_ROLES = "rolname ~ '^writ_[0-9a-f]{16}$'";
const request = () => ({
  group: GROUP,
  sessionId: 'session-1',
});

onEachPostgres('SessionRoles', (server) => {
  let directory: string;
  let passwordFile: string;
  let logged = '';
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'writ-roles-'));
    passwordFile = join(directory, 'password');
    await writeFile(passwordFile, `${LOGIN_PASSWORD}\n`);
    await server().exec(SHOP_SQL);
    await setUpShop(server(), [SHOP_READER]);
  });
  after(async () => {
    await rm(directory, { recursive: true, force: true });
  });
  afterEach(async () => {
    assert.deepEqual(await rolesThatCanLogIn(server()), []);
    assert.deepEqual(await names(), []);
    assert.deepEqual(await server().exec('select * from writ.session'), []);
    const backends = await server().exec(
      "select * from pg_stat_activity where usename like 'writ\\_%' and usename <> 'writ_gateway' or usename is null and backend_type = 'client backend'",
    );
    assert.deepEqual(backends, []);
  });

  const names = async () =>
    (await server().exec(`select rolname from pg_roles where ${SESSION_ROLES}`)).map(
      (row) => row.rolname,
    );
  const rolesOf = (gateway = 'edge', backend = shopBackend(server(), { passwordFile })) =>
    new SessionRoles({
      backend,
      source: fileLogin(LOGIN, passwordFile),
      gatewayId: SpiffeId.fromSegments(parseTrustDomain('example.org'), 'writ', 'gateway', gateway),
      log: createLogger(
        { process: 'gateway', level: 'debug' },
        {
          write: (line) => {
            logged += line;
          },
        },
      ),
      clock: systemClock,
    });
  const logIn = ({ role, password }: { role: string; password: string }) =>
    connectAs(server(), { user: role, password });

  it('P5: lets a role log in once, and nobody after it is sealed, while the session lives on', async () => {
    await using roles = rolesOf();
    const credential = await roles.open(request());
    await using session = await logIn(credential);
    await assert.rejects(logIn(credential), { code: '53300' });
    await roles.seal(credential.role);
    await assert.rejects(logIn(credential), { code: '28P01' });
    assert.deepEqual(await rolesThatCanLogIn(server()), []);
    assert.equal((await session.query('select * from customers')).rowCount, 2);
    await assert.rejects(
      session
        .query("alter role current_user password 'mine'")
        .then(() => logIn({ ...credential, password: 'mine' })),
      { code: '28000' },
    );
    const [stored] = await server().exec(
      `select rolpassword from pg_authid where ${SESSION_ROLES}`,
    );
    assert.notEqual(stored?.rolpassword, credential.password);
    await roles.close(credential.role);
    await assert.rejects(session.query('select 1'));
  });

  it('P5: leaves no role that can log in when a session ends before it is sealed', async () => {
    await using roles = rolesOf();
    const credential = await roles.open(request());
    assert.deepEqual(await rolesThatCanLogIn(server()), [credential.role]);
    await roles.close(credential.role);
    await assert.rejects(logIn(credential), { code: '28P01' });
    await roles.close(credential.role);
  });

  it('P6: drops what a session made, a definer function above all, and reassigns nothing', async () => {
    await server().exec(`create schema workshop; grant all on schema workshop to ${GROUP}`);
    await using roles = rolesOf();
    const credential = await roles.open(request());
    await using session = await logIn(credential);
    await roles.seal(credential.role);
    await session.query(`
        create function workshop.mine() returns text language sql security definer as $$ select max(ssn) from public.customers $$;
        grant execute on function workshop.mine() to public;
        create table workshop.notes as select 1 as a; select lo_create(0)`);
    const objects = `select count(*)::int as n from (
        select oid from pg_proc where proname = 'mine' union all select oid from pg_class where relname = 'notes'
        union all select oid from pg_largeobject_metadata) x`;
    assert.deepEqual(await server().exec(objects), [{ n: 3 }]);
    await roles.close(credential.role);
    assert.deepEqual(await server().exec(objects), [{ n: 0 }]);
    const [left] = await server().exec(
      'select pg_get_functiondef(oid) as f from pg_proc where proname = $$mine$$',
    );
    assert.equal(left, undefined);
    await server().exec('drop schema workshop');
  });

  it('P6: goes on trying while something of others depends on what the session made', async () => {
    await server().exec(`create schema workshop; grant all on schema workshop to ${GROUP}`);
    await using roles = rolesOf();
    const credential = await roles.open(request());
    await using session = await logIn(credential);
    await roles.seal(credential.role);
    await session.query('create table workshop.notes as select 1 as a');
    await server().exec('create view workshop.on_it as select * from workshop.notes');
    let gone = false;
    const closing = roles.close(credential.role).then(() => {
      gone = true;
    });
    await sleep(400);
    assert.equal(gone, false);
    assert.deepEqual(await rolesThatCanLogIn(server()), []);
    await server().exec('drop view workshop.on_it');
    await closing;
    await server().exec('drop schema workshop');
  });

  it('ends idle, busy, waiting and copying backends with their roles', async () => {
    await server().exec(`grant temporary on database postgres to ${GROUP}`);
    await using roles = rolesOf();
    const work = [
      'select 1',
      'begin; create temp table t as select 1',
      'select pg_sleep(60)',
      'select count(*) from generate_series(1, 1000000000)',
      'select max(a.i * b.i) from generate_series(1, 100000) a(i), generate_series(1, 100000) b(i)',
      'select pg_advisory_lock(1)',
      "copy (select repeat('x', 1000) from generate_series(1, 100000000)) to stdout",
    ];
    const open = await Promise.all(
      work.map(async (sql) => {
        const credential = await roles.open(request());
        const session = await logIn(credential);
        await roles.seal(credential.role);
        const ended = session
          .query(sql)
          .then(() => session.query('select 1'))
          .then(() => sleep(20))
          .catch(() => undefined);
        return { role: credential.role, session, ended };
      }),
    );
    await sleep(300);
    const started = performance.now();
    await Promise.all(open.map(({ role }) => roles.close(role)));
    const took = performance.now() - started;
    assert.ok(took < 3000, `${took} ms`);
    assert.deepEqual(await names(), []);
    for (const { session, ended } of open) {
      await session[Symbol.asyncDispose]();
      await ended;
    }
    await server().exec(`revoke temporary on database postgres from ${GROUP}`);
  });

  it('G10: opens 50 sessions at once over four connections and leaves nothing', async () => {
    await using roles = rolesOf();
    const sessions = Array.from({ length: 50 }, async () => {
      const credential = await roles.open(request());
      await using session = await logIn(credential);
      await roles.seal(credential.role);
      const { rows } = await session.query(
        'select session_user as role, count(*)::int as n from customers',
      );
      assert.deepEqual(rows, [{ role: credential.role, n: 2 }]);
      await roles.close(credential.role);
      return credential.role;
    });
    assert.equal(new Set(await Promise.all(sessions)).size, 50);
    const [row] = await server().exec(
      "select count(*)::int as n from pg_stat_activity where application_name = 'writ-gateway'",
    );
    assert.equal(row?.n, 4);
  });

  it('G11: closes at its start what the same gateway left behind, and nothing of others', async () => {
    const dead = rolesOf('edge');
    const credential = await dead.open(request());
    await using session = await logIn(credential);
    const unsealed = await dead.open(request());
    await using other = rolesOf('other');
    const theirs = await other.open(request());
    await using restarted = rolesOf('edge');
    const mine = await restarted.open(request());
    restarted.start();
    const end = Date.now() + 10_000;
    while ((await names()).length > 2 && Date.now() < end) await sleep(20);
    assert.deepEqual((await names()).sort(), [mine.role, theirs.role].sort());
    await assert.rejects(session.query('select 1'));
    await assert.rejects(logIn(unsealed), { code: '28P01' });
    await dead[Symbol.asyncDispose]();
  });

  it('G11: closes what outlived its lease, whoever made it, and renews its own', async () => {
    const dead = rolesOf('gone');
    const orphan = await dead.open(request());
    await using roles = rolesOf('edge');
    const mine = await roles.open(request());
    const lost = await roles.open(request());
    await server().exec("update writ.session set lease_until = now() - interval '1 second'");
    // A role without its row is still a member of a group.
    await server().exec(`delete from writ.session where role = '${lost.role}'`);
    await using sweeper = rolesOf('third');
    await roles.reap();
    const [lease] = await server().exec(
      `select lease_until > now() + interval '90 seconds' as renewed from writ.session where role = '${mine.role}'`,
    );
    assert.equal(lease?.renewed, true);
    await sweeper.reap();
    assert.deepEqual(await names(), [mine.role]);
    await assert.rejects(logIn(orphan), { code: '28P01' });
    await dead[Symbol.asyncDispose]();
  });

  it('closes a role once the backend can be reached again, and says so to nobody meanwhile', async () => {
    await using roles = rolesOf();
    const credential = await roles.open(request());
    await using session = await logIn(credential);
    await server().exec(
      `alter role ${LOGIN} nologin; select pg_terminate_backend(pid, 1000) from pg_stat_activity where usename = '${LOGIN}'`,
    );
    let gone = false;
    const closing = roles.close(credential.role).then(() => {
      gone = true;
    });
    await assert.rejects(roles.open(request()), { code: 'UNAVAILABLE' });
    await sleep(200);
    assert.equal(gone, false);
    assert.equal((await session.query('select 1 as a')).rows[0].a, 1);
    await server().exec(`alter role ${LOGIN} login`);
    await closing;
    await assert.rejects(session.query('select 1'));
  });

  it('says that a grant is not set up, and leaves nothing', async () => {
    await using roles = rolesOf();
    await assert.rejects(roles.open({ ...request(), group: 'writ_g_0000000000000000' }), {
      code: 'FAILED_PRECONDITION',
      message: 'the grant is not set up in backend shop: run writ backend setup again',
    });
    await assert.rejects(roles.seal('writ_0000000000000000'), { code: 'BACKEND_FAILED' });
  });

  it('says so too where the functions are of an older plan, which asks for other verifiers', async () => {
    const [before] = await server().exec(
      `select pg_get_functiondef('writ.open_session'::regproc) as sql`,
    );
    const current = String(before?.sql);
    await server().exec(current.replace('(1|4096):', '4096:'));
    await using roles = rolesOf();
    await assert.rejects(roles.open(request()), { code: 'FAILED_PRECONDITION' });
    await server().exec(current);
  });

  it('calls for what can be done meanwhile just before the role is opened', async () => {
    await using roles = rolesOf();
    const turns: string[] = [];
    const { role } = await roles.open({ ...request(), onTurn: () => turns.push('turn') });
    assert.deepEqual(turns, ['turn']);
    await roles.close(role);
  });

  it('takes the password anew from its file and writes it into no log or error', async () => {
    await writeFile(passwordFile, 'a wrong password');
    await using roles = rolesOf();
    await assert.rejects(roles.open(request()), (error: Error) => {
      assert.ok(!JSON.stringify([error.message, String(error.cause)]).includes('wrong password'));
      return true;
    });
    await writeFile(passwordFile, LOGIN_PASSWORD);
    const { role, password } = await roles.open(request());
    await roles.close(role);
    for (const secret of [LOGIN_PASSWORD, 'a wrong password', password, 'SCRAM-SHA-256$']) {
      assert.ok(!logged.includes(secret));
    }
  });

  it('closes what is open when it is disposed', async () => {
    const roles = rolesOf();
    roles.start();
    await roles.open(request());
    await roles[Symbol.asyncDispose]();
    assert.deepEqual(await names(), []);
    await assert.rejects(roles.open(request()), { code: 'UNAVAILABLE' });
  });
});
