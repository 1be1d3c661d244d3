/** A gateway that dies, and a database that goes away: what its session roles come to. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../runtime/clock.ts';
import { CutRelay } from '../fixtures/cut-relay.ts';
import { rolesOfGateway } from '../fixtures/doomed-roles.ts';
import { onEachPostgres } from '../fixtures/each-postgres.ts';
import {
  connectAs,
  groupRoleOf,
  LOGIN_PASSWORD,
  SHOP_READER,
  SHOP_SQL,
  setUpShop,
} from '../fixtures/shop-database.ts';

const GROUP = groupRoleOf(SHOP_READER);
const DOOMED = fileURLToPath(new URL('../fixtures/doomed-roles.ts', import.meta.url));
/** After which nothing of a dead gateway may be left. */
const PROMISED_MS = 10_000;
const DAY_MS = 24 * 60 * 60 * 1000;

onEachPostgres('Session roles', (server) => {
  let folder: string;
  let passwordFile: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'writ-fault-'));
    passwordFile = join(folder, 'password');
    await writeFile(passwordFile, LOGIN_PASSWORD);
    await server().exec(SHOP_SQL);
    await setUpShop(server(), [SHOP_READER]);
  });
  after(() => rm(folder, { recursive: true, force: true }));

  /** What breaks the promise: roles that can log in, are members or own something, and sessions. */
  async function leftovers(): Promise<unknown[]> {
    return server().exec(`
      with r as (select oid, rolname, rolcanlogin from pg_roles where rolname ~ '^writ_[0-9a-f]{16}$')
      select 'can log in' as what, rolname::text as name from r where rolcanlogin
      union all select 'is a member', rolname from r join pg_auth_members m on m.member = r.oid
      union all select 'owns or is granted', rolname from r join pg_shdepend d on d.refobjid = r.oid
        and d.refclassid = 'pg_authid'::regclass and d.classid <> 'pg_auth_members'::regclass
      union all select 'runs', coalesce(usename, usesysid::text) from pg_stat_activity
        where usename ~ '^writ_[0-9a-f]{16}$' or (usename is null and backend_type = 'client backend')
      union all select 'is listed', role from writ.session`);
  }

  async function untilNothingIsLeft(promisedMs: number): Promise<void> {
    const end = Date.now() + promisedMs;
    while ((await leftovers()).length > 0 && Date.now() < end) await sleep(50);
    assert.deepEqual(await leftovers(), []);
  }

  it('G11: are gone 10 s after the restart of a gateway that was killed at each step', async () => {
    await server().exec(
      `create schema if not exists workshop; grant all on schema workshop to ${GROUP}`,
    );
    const args = ['--import', 'tsx', DOOMED, String(server().port), GROUP, passwordFile];
    const gateway = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = once(gateway, 'exit');
    const [line] = await once(gateway.stdout, 'data');
    const roles = JSON.parse(String(line)) as string[];
    assert.equal(roles.length, 3);
    // What a live session made is the hardest to remove.
    await server().exec(
      `create table workshop.notes (); alter table workshop.notes owner to ${roles[2]}`,
    );
    gateway.kill('SIGKILL');
    await exited;
    assert.notDeepEqual(await leftovers(), []);
    await using restarted = rolesOfGateway(server().port, passwordFile);
    restarted.start();
    await untilNothingIsLeft(PROMISED_MS);
    const names = await server().exec(
      "select 1 from pg_roles where rolname ~ '^writ_[0-9a-f]{16}$'",
    );
    assert.deepEqual(names, []);
    await server().exec('drop schema workshop cascade');
  });

  it('live by the clock of the database, however the one of the gateway jumps', async () => {
    for (const jumpMs of [-DAY_MS, DAY_MS]) {
      const clock = { ...systemClock, now: () => new Date(Date.now() + jumpMs) };
      await using roles = rolesOfGateway(server().port, passwordFile, clock);
      const { role, password } = await roles.open({ group: GROUP, sessionId: 'session-1' });
      await using session = await connectAs(server(), { user: role, password });
      await roles.seal(role);
      await roles.reap();
      assert.equal((await session.query('select 1 as one')).rows[0].one, 1);
      const [lease] = await server().exec(
        "select lease_until between now() and now() + interval '100 seconds' as soon from writ.session",
      );
      assert.equal(lease?.soon, true);
      await roles.close(role);
    }
    assert.deepEqual(await leftovers(), []);
  });

  it('are kept and closed again and again while the database is away at their end', async () => {
    await using relay = new CutRelay(server().port);
    await relay.mend();
    await using roles = rolesOfGateway(relay.port, passwordFile);
    const request = { group: GROUP, sessionId: 'session-1' };
    const { role, password } = await roles.open(request);
    await using session = await connectAs(server(), { user: role, password });
    await roles.seal(role);
    await relay.cut();
    let gone = false;
    const closing = roles.close(role).then(() => {
      gone = true;
    });
    await assert.rejects(roles.open(request), { code: 'UNAVAILABLE' });
    assert.equal(gone, false);
    assert.equal((await session.query('select 1 as one')).rows[0].one, 1, 'it cannot be ended now');
    await relay.mend();
    await closing;
    assert.deepEqual(await leftovers(), []);
  });
});
