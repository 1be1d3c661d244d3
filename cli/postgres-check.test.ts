import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import pg from 'pg';
import {
  EnforceExceptionSchema,
  ResourceSchema,
} from '../proto/gen/writ/resource/v1/resource_pb.ts';
import { onEachPostgres } from '../test/fixtures/each-postgres.ts';
import {
  groupRoleOf,
  LOGIN,
  planShop,
  SHOP,
  SHOP_READER,
  SHOP_SQL,
  SHOP_WRITER,
  setUpShop,
  shopBackend,
  shopClasses,
  shopColumns,
  shopGrant,
} from '../test/fixtures/shop-database.ts';
import { withPostgres } from './postgres-catalog.ts';
import { checkPostgres } from './postgres-check.ts';
import { declaredBackend } from './postgres-check-subject.ts';
import { type Finding, repairScripts } from './postgres-finding.ts';
import { knownLeaks, knownTakeovers } from './postgres-known-leaks.ts';

describe('knownLeaks', () => {
  it('P9 names minor versions that leak, and none that is fixed', () => {
    assert.deepEqual(knownLeaks(150_018), []);
    assert.deepEqual(knownLeaks(180_004), []);
    const cves = knownLeaks(150_008).map(({ problem }) => problem.slice(0, 14));
    const of2026 = ['CVE-2026-6474:', 'CVE-2026-2003:'];
    assert.deepEqual(cves, [...of2026, 'CVE-2025-8713:', 'CVE-2024-10976', 'CVE-2024-10978']);
    assert.match(knownLeaks(170_005)[2]?.problem ?? '', /CVE-2025-8713.*fixed in 17\.6/);
  });

  it('P9 names minor versions that a session can take over', () => {
    assert.deepEqual(knownTakeovers(180_007), []);
    const faults = knownTakeovers(180_004).map(({ problem }) => problem.slice(0, 14));
    const cves = ['CVE-2026-6460:', 'CVE-2026-14680', 'CVE-2026-16239', 'CVE-2026-14669'];
    assert.deepEqual(faults, cves);
    assert.match(knownTakeovers(150_019)[0]?.problem ?? '', /can run code.*fixed in 15\.20/);
  });
});

onEachPostgres('checkPostgres', (server) => {
  const grants = [SHOP_READER, SHOP_WRITER];

  before(async () => {
    await server().exec(SHOP_SQL);
    await setUpShop(server(), grants);
  });

  const check = async (
    more = grants,
    settingsAllowed: string[] = ['app.locale'],
  ): Promise<readonly Finding[]> => {
    const settings = { settingsAllowed, settingCeilings: {} };
    const declared = declaredBackend(SHOP, [
      resource({ case: 'backend', value: shopBackend(server(), { settings }) }),
      ...more.map((value) => resource({ case: 'grant', value })),
      ...shopClasses.map((value) => resource({ case: 'columnClass', value })),
      ...shopColumns.map((value) => resource({ case: 'columns', value })),
    ]);
    return withPostgres({ connectionString: server().superuserUrl }, (client) =>
      checkPostgres(client, declared),
    );
  };

  /** What is found while `sql` holds, and not after its repair, which its undo takes back. */
  const finds = async (
    sql: string,
    wanted: { readonly check: string; readonly severity: string; readonly subject: RegExp },
    clean: string,
  ): Promise<Finding> => {
    await server().exec(sql);
    const isWanted = (one: Finding) =>
      one.check === wanted.check &&
      one.severity === wanted.severity &&
      wanted.subject.test(one.subject);
    const before = await check();
    const found = before.find(isWanted);
    assert.ok(found, JSON.stringify(before));
    if (found.repair !== undefined) {
      const { repair, undo } = repairScripts(SHOP, [found]);
      await server().exec(repair);
      assert.deepEqual((await check()).filter(isWanted), [], `not repaired: ${found.problem}`);
      await server().exec(undo);
      if (found.repair.undo.length > 0) assert.ok((await check()).some(isWanted));
    }
    await server().exec(clean);
    assert.deepEqual((await check()).filter(isWanted), []);
    return found;
  };

  it('finds nothing critical right after the setup, and changes nothing', async () => {
    const findings = await check();
    assert.deepEqual(
      findings.filter(({ severity }) => severity === 'critical'),
      [],
    );
  });

  it('P1 shows a backend that the gateway alone protects as an exception, with its owner', async () => {
    const exception = create(EnforceExceptionSchema, {
      owner: 'ana@example.org',
      reason: 'rented',
    });
    const backend = shopBackend(server());
    if (backend.type.case === 'postgres') backend.type.value.exception = exception;
    const declared = declaredBackend(SHOP, [resource({ case: 'backend', value: backend })]);
    const findings = await withPostgres({ connectionString: server().superuserUrl }, (client) =>
      checkPostgres(client, declared),
    );
    assert.match(findings[0]?.problem ?? '', /EXCEPTION of ana@example.org \(rented\)/);
    assert.equal(findings[0]?.severity, 'critical');
  });

  it('P1 G13 names a gateway login that can do more than open sessions', async () => {
    const wanted = { check: 'gateway-login', severity: 'critical', subject: /^writ_gateway$/ };
    const off = `alter role ${LOGIN} nosuperuser nocreaterole`;
    const found = await finds(`alter role ${LOGIN} createrole`, wanted, off);
    assert.match(found.problem, /EXCEPTION.*CREATEROLE/);
    await finds(
      `grant pg_read_all_data to ${LOGIN}`,
      wanted,
      `revoke pg_read_all_data from ${LOGIN}`,
    );
    await server().exec(`grant select on public.vault to ${LOGIN}`);
    assert.ok(
      (await check()).some(({ problem }) => /rights of its own on public\.vault/.test(problem)),
    );
    await server().exec(`revoke select on public.vault from ${LOGIN}`);
  });

  it("P1 looks at the login's twin too, where the password is rotated", async () => {
    await setUpShop(server(), grants, { secret: 'shop-login' });
    const subject = /^writ_gateway_b$/;
    const wanted = { check: 'gateway-login', severity: 'critical', subject };
    const off = `alter role ${LOGIN}_b nocreaterole`;
    const found = await finds(`alter role ${LOGIN}_b createrole`, wanted, off);
    assert.match(found.problem, /EXCEPTION.*CREATEROLE/);
    await setUpShop(server(), grants);
  });

  it('P9 names other logins that read classified columns, how, and their last use', async () => {
    const wanted = { check: 'other-login', severity: 'critical', subject: /^app$/ };
    await server().exec(
      "create role app login password 'app'; create role team; grant team to app",
    );
    const direct = await finds(
      'grant select (ssn, id) on public.customers to app',
      wanted,
      'revoke select (ssn, id) on public.customers from app',
    );
    assert.match(
      direct.problem,
      /reads public\.customers\.ssn without Writ, directly; last use: unknown/,
    );
    const url = Object.assign(new URL(server().superuserUrl), { username: 'app', password: 'app' });
    const client = new pg.Client({ connectionString: url.href });
    await client.connect();
    const member = await finds(
      'grant select on public.customers to team',
      wanted,
      'revoke select on public.customers from team',
    );
    assert.match(member.problem, /through team; last use: 1 connected now from .*since/);
    await client.end();
    await finds(
      'grant pg_read_all_data to app',
      wanted,
      'revoke pg_read_all_data from app; alter role app login',
    );
    await finds(
      'alter table public.customers owner to app',
      wanted,
      'alter table public.customers owner to postgres',
    );
    await server().exec('drop role app; drop role team');
  });

  it('M3 names superusers, whose use is for when Writ is down', async () => {
    const found = (await check()).find(({ check: kind }) => kind === 'other-login');
    assert.equal(found?.severity, 'warning');
    assert.match(found?.problem ?? '', /superuser.*last use/);
  });

  it('P9 names views, definer functions and foreign data that show classified columns', async () => {
    await finds(
      'create view public.peek as select email from public.customers; grant select on public.peek to public',
      { check: 'view', severity: 'critical', subject: /peek/ },
      'drop view public.peek',
    );
    const define = `create function public.peek() returns text language sql security definer as 'select ssn from public.customers limit 1'`;
    const off = 'drop function public.peek()';
    await finds(define, { check: 'definer-public', severity: 'critical', subject: /peek/ }, off);
    await finds(
      define,
      { check: 'definer-search-path', severity: 'warning', subject: /peek/ },
      off,
    );
  });

  it('P9 names foreign servers and mappings that PUBLIC may use', async () => {
    await finds(
      'create foreign data wrapper dummy; create server away foreign data wrapper dummy; create user mapping for public server away',
      { check: 'user-mapping', severity: 'critical', subject: /away/ },
      'drop foreign data wrapper dummy cascade',
    );
  });

  it('P9 names children granted directly and statistics that hold values', async () => {
    await finds(
      'create table public.vip () inherits (public.customers); create role boss; grant select on public.vip to boss',
      { check: 'relative-granted', severity: 'warning', subject: /vip/ },
      'drop table public.vip; drop role boss',
    );
    await finds(
      'create statistics public.pairs (mcv) on ssn, email from public.customers',
      { check: 'extended-statistics', severity: 'warning', subject: /pairs/ },
      'drop statistics public.pairs',
    );
    await finds(
      'create index lower_mail on public.customers (lower(email))',
      { check: 'expression-index', severity: 'note', subject: /lower_mail/ },
      'drop index public.lower_mail',
    );
  });

  it('P2 names triggers that a write through a grant would break, with the tables they need', async () => {
    const found = await finds(
      `create table public.journal (at timestamptz);
       create function public.note() returns trigger language plpgsql as 'begin insert into public.journal values (now()); return new; end';
       create trigger noted after insert on public.customers for each row execute function public.note()`,
      { check: 'trigger', severity: 'warning', subject: /noted/ },
      'drop trigger noted on public.customers; drop function public.note(); drop table public.journal',
    );
    assert.match(found.problem, /INSERT on public\.journal/);
  });

  it('P5 names a role of Writ that can log in outside an opening', async () => {
    await finds(
      `create role writ_00000000000000aa login`,
      { check: 'role-can-log-in', severity: 'critical', subject: /^writ_0/ },
      'drop role writ_00000000000000aa',
    );
    const group = groupRoleOf(SHOP_READER);
    await finds(
      `alter role ${group} login`,
      { check: 'role-can-log-in', severity: 'critical', subject: /^writ_g_/ },
      `alter role ${group} nologin`,
    );
  });

  it('P8 names row policies that mean something else in a session', async () => {
    await finds(
      "create policy mine on public.orders using (note = current_user or note = current_setting('app.t'))",
      { check: 'row-security', severity: 'warning', subject: /orders/ },
      'drop policy mine on public.orders',
    );
  });

  it('P8 P11 names row policies that trust a setting which every session may change', async () => {
    await finds(
      "create policy mine on public.orders using (note = current_setting('App.Locale'))",
      { check: 'allowed-setting', severity: 'critical', subject: /orders/ },
      'drop policy mine on public.orders',
    );
  });

  it('names drift, and grants whose rights the setup has not seen', async () => {
    await finds(
      'alter table public.customers add phone text',
      { check: 'drift', severity: 'note', subject: /customers\.phone/ },
      'alter table public.customers drop phone',
    );
    const late = await check([...grants, shopGrant('late')]);
    assert.ok(
      late.some(({ check: kind, subject }) => kind === 'setup' && subject === 'grant late'),
    );
    await server().exec((await planShop(server(), [])).undoSql);
    const [first] = await check();
    assert.match(first?.problem ?? '', /nothing is enforced/);
    await setUpShop(server(), grants);
  });
});

type Body = NonNullable<Parameters<typeof declaredBackend>[1][number]>['body'];

function resource(body: Body) {
  return create(ResourceSchema, { name: 'r', body });
}
