/** G27: what the database gathers about its data and its sessions shows a session nothing that is masked. */
import assert from 'node:assert/strict';
import pg from 'pg';
import {
  queryMessage,
  startupMessage,
} from '../../gateway/plugins/backend/postgres/wire/frontend-messages.ts';
import { leaksIn } from '../corpus/leak-forms.ts';
import {
  POSTGRES_VERSIONS,
  postgresTitle,
  requirePostgres,
  startPostgres,
  type TestPostgres,
} from '../fixtures/postgres.ts';
import { until } from '../fixtures/restarts.ts';
import { SECRETS, SHOP_SQL, shopGrant } from '../fixtures/shop-database.ts';
import { type ShopGateway, startShopGateway } from '../fixtures/shop-gateway.ts';

/** No statement rules: what is left is the database's. */
const UNRULED = shopGrant('statistics', {
  select: ['public.customers', 'public.orders'],
  statements: ['any'],
});
const READER = shopGrant('statistics-reader');

/** Statistics of every kind that hold values: of columns, of expressions, of several columns. */
const SQL = `${SHOP_SQL}
  create extension pg_stat_statements;
  insert into public.customers (name, ssn, email, card, api_key)
    select 'Ada ' || i, '${SECRETS.ssn}', '${SECRETS.email}', ${SECRETS.card}, '${SECRETS.apiKey}'
    from generate_series(1, 500) i;
  create index on public.customers (lower(email));
  create statistics public.together (mcv) on ssn, email from public.customers;
  create statistics public.of_expression on (reverse(ssn)), (ssn || email) from public.customers;
  analyze`;

/** Statements of somebody else that hold masked values, for what keeps the texts of statements. */
const OTHERS = `select 1 from public.customers where ssn = '${SECRETS.ssn}' and email = '${SECRETS.email}'
  and card = ${SECRETS.card} and api_key = '${SECRETS.apiKey}' or pg_sleep(0) is null`;

const ATTEMPTS: readonly string[] = [
  'select * from pg_stats',
  "select * from pg_stats where tablename = 'customers'",
  'select most_common_vals::text, histogram_bounds::text from pg_catalog.pg_stats',
  'select * from pg_stats_ext',
  'select * from pg_stats_ext_exprs',
  'select * from pg_statistic',
  'select stavalues1, stavalues2 from pg_statistic',
  'select * from pg_statistic_ext_data',
  'select pg_mcv_list_items(stxdmcv) from pg_statistic_ext_data',
  'select * from pg_stat_activity',
  'select * from pg_stat_get_activity(null)',
  "select query from pg_stat_activity where query like '%ssn%'",
  'select * from pg_stat_statements',
  'select * from pg_stat_statements(true)',
  'select * from pg_stat_statements_info',
  'select * from pg_prepared_statements',
  'select * from pg_cursors',
  'select * from pg_locks l join pg_stat_activity a using (pid)',
  'select * from pg_stat_user_tables, pg_statio_user_indexes',
  'explain select * from customers',
  `explain (analyze, verbose, buffers) select ssn, email from customers where ssn = '${'0'.repeat(11)}'`,
  'explain (analyze, verbose, format json) select * from customers where ssn > (select min(email) from customers)',
  'explain (verbose, costs off) select max(ssn), min(api_key) from customers',
  'explain (analyze) execute nothing',
  'explain (analyze, verbose) select * from pg_stats',
  'set debug_print_plan = on; set client_min_messages = debug1; select ssn from customers',
  'select pg_get_statisticsobjdef(oid), pg_get_statisticsobjdef_expressions(oid) from pg_statistic_ext',
  'select pg_get_indexdef(indexrelid) from pg_index',
  'select * from pg_stat_get_backend_idset() i, pg_stat_get_backend_activity(i)',
];

for (const version of POSTGRES_VERSIONS) {
  describe(`G27 statistics and activity of ${postgresTitle(version)}`, () => {
    let server: TestPostgres;
    let gateway: ShopGateway;
    let other: pg.Client;
    before(async function () {
      this.timeout(60_000);
      requirePostgres(this, version);
      const settings = {
        shared_preload_libraries: "'pg_stat_statements'",
        'pg_stat_statements.track_utility': 'on',
        track_activity_query_size: '16384',
      };
      server = await startPostgres({ version, settings });
      await server.exec(SQL);
      gateway = await startShopGateway(server, [UNRULED, READER]);
      other = new pg.Client({ connectionString: server.superuserUrl });
      await other.connect();
      await other.query(`prepare other as ${OTHERS}`);
      await other.query(OTHERS);
    });
    after(async () => {
      await other?.end();
      await gateway?.[Symbol.asyncDispose]();
      await server?.[Symbol.asyncDispose]();
    });

    for (const grant of [READER, UNRULED]) {
      it(`shows no masked value to ${grant.name}`, async () => {
        using client = await gateway.dial(grant);
        client.send(
          startupMessage([
            ['user', 'somebody'],
            ['database', 'shop'],
          ]),
        );
        await client.until('Z');
        const leaks: string[] = [];
        let rows = 0;
        for (const sql of ATTEMPTS) {
          client.send(queryMessage(sql));
          const answer = await client.until('Z');
          assert.equal(answer.at(-1)?.type, 'Z', sql);
          rows += answer.filter(({ type }) => type === 'D').length;
          const found = leaksIn(Buffer.concat(answer.map(({ body }) => body)));
          if (found.length > 0) leaks.push(`${sql}: ${found.join(' ')}`);
        }
        assert.deepEqual(leaks, []);
        assert.ok(rows > 10, `${rows} rows were answered`);
      });
    }

    it('shows nothing of what another session of the same grant runs', async () => {
      await using busy = await gateway.connect(UNRULED);
      const running = busy
        .query("select pg_sleep(60), 'a secret of a session'")
        .catch(() => undefined);
      await using asking = await gateway.connect(UNRULED);
      const sees = async () =>
        (await server.exec("select 1 from pg_stat_activity where wait_event = 'PgSleep'"))
          .length === 1;
      await until(sees, 10_000, 'the statement runs');
      const { rows } = await asking.query(
        "select query from pg_stat_activity where pid <> pg_backend_pid() and query ~ 'a secret of'",
      );
      assert.deepEqual(rows, []);
      await server.exec(
        "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'",
      );
      await running;
    });

    it('would show them to whom the database lets see them', async () => {
      const seen = await Promise.all(
        [
          "select most_common_vals::text as x from pg_stats where tablename = 'customers'",
          'select most_common_vals::text as x from pg_stats_ext',
          'select query as x from pg_stat_activity where pid <> pg_backend_pid()',
        ].map((sql) => server.exec(sql)),
      );
      for (const rows of seen) {
        assert.ok(leaksIn(Buffer.from(JSON.stringify(rows))).length > 0, JSON.stringify(rows));
      }
      const texts = await server.exec(
        "select query from pg_stat_statements where query ~ 'from public.customers'",
      );
      assert.ok(texts.length > 0);
    });

    it('gives its sessions none of the roles that see more', async () => {
      for (const grant of [READER, UNRULED]) {
        await using client = await gateway.connect(grant);
        const { rows } = await client.query(`select rolname from pg_roles
          where rolname ~ '^pg_' and pg_has_role(current_user, oid, 'member')`);
        assert.deepEqual(rows, []);
        const member = await client.query(
          `select pg_has_role('pg_read_all_stats', 'member') or pg_has_role('pg_monitor', 'usage') as is_member`,
        );
        assert.equal(member.rows[0].is_member, false);
      }
      const groups =
        await server.exec(`select r.rolname from pg_roles r join pg_auth_members m on m.roleid = r.oid
        join pg_roles w on w.oid = m.member where r.rolname ~ '^pg_' and w.rolname ~ '^writ_([a-z]_)?[0-9a-f]{16}$'`);
      assert.deepEqual(groups, []);
    });
  });
}
