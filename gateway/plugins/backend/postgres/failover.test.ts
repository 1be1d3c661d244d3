import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { Fault } from '../../../../runtime/fault.ts';
import { scramVerifier } from '../../../../runtime/scram-verifier.ts';
import {
  POSTGRES_VERSIONS,
  postgresTitle,
  requirePostgres,
  startPostgres,
  type TestPostgres,
} from '../../../../test/fixtures/postgres.ts';
import { startReplica, type TestReplica } from '../../../../test/fixtures/postgres-replica.ts';
import {
  callersGrant,
  type ReachGateway,
  reachBackend,
  setUpEach,
  startReachGateway,
  writePasswordFile,
} from '../../../../test/fixtures/reach-gateway.ts';
import {
  connectAs,
  groupRoleOf,
  LOGIN,
  LOGIN_PASSWORD,
  SHOP_SQL,
} from '../../../../test/fixtures/shop-database.ts';
import { until } from '../../../../test/fixtures/until.ts';
import { unusedPort } from '../../../../test/fixtures/unused-port.ts';

const READS = callersGrant('reads-shop', { select: ['public.customers', 'public.orders'] });
const ROLES = "select rolname from pg_roles where rolname ~ '^writ_[0-9a-f]{16}$'";

type At = Pick<TestPostgres, 'host' | 'port'>;

for (const version of POSTGRES_VERSIONS) {
  describe(`failover of a backend on ${postgresTitle(version)}`, function () {
    this.timeout(60_000);
    let password: Awaited<ReturnType<typeof writePasswordFile>>;
    let primary: TestPostgres;
    let standby: TestReplica;
    let gateway: ReachGateway;
    before(function () {
      requirePostgres(this, version);
    });
    beforeEach(async () => {
      password = await writePasswordFile();
      primary = await startPostgres({ version });
      await primary.exec(SHOP_SQL);
      standby = await startReplica(primary);
      await setUpEach(primary, ['postgres'], backendAt(primary), [READS]);
      gateway = await startReachGateway();
    });
    afterEach(async () => {
      await gateway?.[Symbol.asyncDispose]();
      await standby?.[Symbol.asyncDispose]();
      await primary?.[Symbol.asyncDispose]();
      await password?.[Symbol.asyncDispose]();
    });

    function backendAt({ host, port }: At, ...others: At[]) {
      const failover = others.map((other) => ({ host: other.host, port: other.port }));
      const place = { host, port, database: 'postgres', failover };
      return reachBackend('shop', password.file, place);
    }

    const portOf = async (client: pg.Client) =>
      (await client.query('select inet_server_port() as port')).rows[0].port;

    it('passes over a host that is down and one that is a standby', async () => {
      const down = { host: '127.0.0.1', port: await unusedPort() };
      gateway.know([backendAt(down, standby, primary)], [READS]);
      await using client = await gateway.connect();
      assert.equal(await portOf(client), primary.port);
    });

    it('says so where none of the hosts is the primary', async () => {
      const down = { host: '127.0.0.1', port: await unusedPort() };
      gateway.know([backendAt(down, standby)], [READS]);
      await assert.rejects(gateway.connect(), {
        code: '57P03',
        message: 'none of the hosts of the backend is its primary now',
      });
    });

    it('follows the primary, and closes there the roles that came along', async () => {
      gateway.know([backendAt(primary, standby)], [READS]);
      await using before = await gateway.connect();
      assert.equal(await portOf(before), primary.port);
      await standby.caughtUp();
      assert.equal((await standby.exec(ROLES)).length, 1);
      await primary.crash();
      await assert.rejects(before.query('select 1'));
      await standby.promote();
      await using client = await gateway.connect();
      assert.equal(await portOf(client), standby.port);
      const { rows } = await client.query('select ssn from customers where id = 1');
      assert.deepEqual(rows, [{ ssn: '*******8726' }]);
      await until(async () => (await standby.exec(ROLES)).length === 1);
      await client.end();
      await until(async () => (await standby.exec(ROLES)).length === 0);
      assert.deepEqual(await standby.exec('select * from writ.session'), []);
    });

    it('G35: cancels on the host of the session', async () => {
      await standby.caughtUp();
      await primary.crash();
      await standby.promote();
      gateway.know([backendAt(primary, standby)], [READS]);
      await using client = await gateway.connect();
      const query = new pg.Query('select pg_sleep(60)');
      const done = new Promise<Error & { code?: string }>((resolve) => query.on('error', resolve));
      client.query(query);
      const sleeping = "select from pg_stat_activity where wait_event = 'PgSleep'";
      await until(async () => (await standby.exec(sleeping)).length > 0);
      const canceller = new pg.Client(gateway.wire.clientConfig) as pg.Client & {
        cancel(client: pg.Client, query: pg.Query): void;
      };
      canceller.cancel(client, query);
      assert.equal((await done).code, '57014');
    });

    it('G11: reaps on the new primary what the gateway left on the old one', async () => {
      const role = `writ_${randomBytes(8).toString('hex')}`;
      {
        await using login = await connectAs(primary, { user: LOGIN, password: LOGIN_PASSWORD });
        await login.query(
          `select writ.open_session($1, $2, $3, now() + interval '10 minutes', 'spiffe://example.org/writ/gateway/g')`,
          [role, scramVerifier('a password'), groupRoleOf(READS)],
        );
      }
      await standby.caughtUp();
      await primary.crash();
      await standby.promote();
      assert.deepEqual(await standby.exec(ROLES), [{ rolname: role }]);
      gateway.know([backendAt(primary, standby)], [READS]);
      await until(async () => (await standby.exec(ROLES)).length === 0);
    });

    it('P14: ends a session on a standby though the primary is down, and its role once it is back', async () => {
      const grant = callersGrant('reads-shop', { select: ['public.orders'], replica: true });
      const backend = reachBackend('shop', password.file, {
        ...{ host: primary.host, port: primary.port, database: 'postgres' },
        failover: [{ host: standby.host, port: standby.port }],
        replicas: [{ host: standby.host, port: standby.port }],
      });
      gateway.know([backend], [grant]);
      await using client = await gateway.connect();
      assert.equal(await portOf(client), standby.port);
      await primary.crash();
      assert.equal(await portOf(client), standby.port);
      gateway.sessions.at(-1)?.terminate(new Fault('PERMISSION_DENIED', 'locked'));
      const live = "select from pg_stat_activity where usename ~ '^writ_[0-9a-f]{16}$'";
      await until(async () => (await standby.exec(live)).length === 0);
      assert.equal((await standby.exec(ROLES)).length, 1);
      await standby.promote();
      await until(async () => (await standby.exec(ROLES)).length === 0);
    });

    it('looks for the primary anew where the last one takes no writes any more', async () => {
      gateway.know([backendAt(standby, primary)], [READS]);
      {
        await using client = await gateway.connect();
        assert.equal(await portOf(client), primary.port);
      }
      await until(async () => gateway.sessions.every(({ disposed }) => disposed));
      await standby.caughtUp();
      await primary.exec('alter system set default_transaction_read_only = on');
      await primary.exec('select pg_reload_conf()');
      await standby.promote();
      await using client = await gateway.connect();
      assert.equal(await portOf(client), standby.port);
    });
  });
}
