import assert from 'node:assert/strict';
import pg from 'pg';
import type { Backend, Grant } from '../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../../../runtime/fault.ts';
import { onEachPostgres } from '../../../../test/fixtures/each-postgres.ts';
import { startReplica, type TestReplica } from '../../../../test/fixtures/postgres-replica.ts';
import {
  callersGrant,
  type ReachGateway,
  reachBackend,
  setUpEach,
  startReachGateway,
  writePasswordFile,
} from '../../../../test/fixtures/reach-gateway.ts';
import { SHOP_SQL } from '../../../../test/fixtures/shop-database.ts';
import { until } from '../../../../test/fixtures/until.ts';
import { unusedPort } from '../../../../test/fixtures/unused-port.ts';

const READS: Grant = callersGrant('reads-replica', {
  select: ['public.customers', 'public.orders'],
  replica: true,
});
const ROLES = "select rolname from pg_roles where rolname ~ '^writ_[0-9a-f]{16}$'";
const BACKENDS = `select pid from pg_stat_activity
  where backend_type = 'client backend' and (usename ~ '^writ_[0-9a-f]{16}$' or usename is null)`;

onEachPostgres('sessions on replicas', (server) => {
  let password: Awaited<ReturnType<typeof writePasswordFile>>;
  let gateway: ReachGateway;
  let replica: TestReplica;
  before(async () => {
    password = await writePasswordFile();
    await server().exec(SHOP_SQL);
    replica = await startReplica(server());
    await setUpEach(server(), ['postgres'], backendWith([replica]), [READS]);
    await replica.caughtUp();
    gateway = await startReachGateway();
    gateway.know([backendWith([replica])], [READS]);
  });
  after(async () => {
    await gateway?.[Symbol.asyncDispose]();
    await replica?.[Symbol.asyncDispose]();
    await password?.[Symbol.asyncDispose]();
  });
  afterEach(async () => {
    await until(async () => gateway.sessions.every(({ disposed }) => disposed));
    await until(async () => (await server().exec(ROLES)).length === 0);
    assert.deepEqual(await replica.exec(BACKENDS), []);
  });

  function backendWith(replicas: readonly Pick<TestReplica, 'host' | 'port'>[]): Backend {
    return reachBackend('shop', password.file, {
      host: server().host,
      port: server().port,
      database: 'postgres',
      replicas: replicas.map(({ host, port }) => ({ host, port })),
    });
  }

  it('P14: a session is on the standby, reads masked rows there, and writes nothing', async () => {
    await using client = await gateway.connect();
    const { rows } = await client.query(
      'select pg_is_in_recovery() as standby, ssn from customers order by id limit 1',
    );
    assert.deepEqual(rows, [{ standby: true, ssn: '*******8726' }]);
    await assert.rejects(client.query('delete from orders'), { code: '42501' });
    assert.deepEqual((await client.query('select count(*)::int as n from orders')).rows, [
      { n: 2 },
    ]);
  });

  it('P14, P5: the role is sealed on the standby before the first statement', async () => {
    await using client = await gateway.connect();
    const { rows } = await client.query(
      'select rolcanlogin from pg_roles where rolname = session_user',
    );
    assert.deepEqual(rows, [{ rolcanlogin: false }]);
  });

  it('P14: a cancel goes to the standby', async () => {
    await using client = await gateway.connect();
    const query = new pg.Query('select pg_sleep(60)');
    const done = new Promise<Error>((resolve) => query.on('error', resolve));
    client.query(query);
    await until(
      async () =>
        (await replica.exec("select from pg_stat_activity where wait_event = 'PgSleep'")).length >
        0,
    );
    const canceller = new pg.Client(gateway.wire.clientConfig) as pg.Client & {
      cancel(client: pg.Client, query: pg.Query): void;
    };
    canceller.cancel(client, query);
    assert.equal(((await done) as { code?: string }).code, '57014');
    assert.deepEqual((await client.query('select 1 as a')).rows, [{ a: 1 }]);
  });

  it('P14, G16: what ends a session ends it on both, in time', async () => {
    await using client = await gateway.connect();
    const running = client
      .query('select count(*) from generate_series(1, 10000000000)')
      .catch((error: Error) => error);
    await until(
      async () =>
        (
          await replica.exec(
            "select from pg_stat_activity where query ~ '10000000000' and state = 'active'",
          )
        ).length > 1,
    );
    const started = performance.now();
    gateway.sessions.at(-1)?.terminate(new Fault('PERMISSION_DENIED', 'locked'));
    assert.equal(((await running) as { code?: string }).code, '57P01');
    await until(async () => (await replica.exec(BACKENDS)).length === 0);
    const took = performance.now() - started;
    // The session keeps a processor busy: G16 gives such ones two seconds.
    assert.ok(took < 2000, `${took} ms`);
  });

  it('P14: a standby that does not follow lets nobody in, and the client is told how far it is behind', async () => {
    await replica.exec('select pg_wal_replay_pause()');
    try {
      await assert.rejects(gateway.connect(), {
        code: '08006',
        message: /^no replica has followed the primary: replica 1 is [1-9]\d* bytes behind$/,
      });
    } finally {
      await replica.exec('select pg_wal_replay_resume()');
    }
  });

  it('P14: one that cannot be reached, and one that is no standby, are passed over', async () => {
    const gone = { host: '127.0.0.1', port: await unusedPort() };
    gateway.know([backendWith([gone, server(), replica])], [READS]);
    for (let turn = 0; turn < 3; turn += 1) {
      await using client = await gateway.connect();
      const { rows } = await client.query('select pg_is_in_recovery() as standby');
      assert.deepEqual(rows, [{ standby: true }]);
    }
    gateway.know([backendWith([gone, server()])], [READS]);
    await assert.rejects(gateway.connect(), {
      code: '08006',
      message:
        'no replica has followed the primary: replica 1 does not answer, replica 2 is no standby',
    });
    gateway.know([backendWith([replica])], [READS]);
  });

  it('P14: says that the setup is older than replicas, and leaves nothing', async () => {
    const [made] = await server().exec(
      "select pg_get_functiondef('writ.end_session'::regproc) as sql",
    );
    await server().exec('drop function writ.end_session(name)');
    await assert.rejects(gateway.connect(), {
      code: '55000',
      message: /run writ backend setup again/,
    });
    await server().exec(`${made?.sql}; alter function writ.end_session(name) owner to writ_admin;
      revoke all on function writ.end_session(name) from public;
      grant execute on function writ.end_session(name) to writ_gateway`);
    await replica.caughtUp();
  });

  it('P14: a change of the backend ends its sessions on the standby first', async () => {
    await using client = await gateway.connect();
    await client.query('select 1');
    gateway.know([], []);
    await until(async () => (await replica.exec(BACKENDS)).length === 0);
    await assert.rejects(client.query('select 1'));
    gateway.know([backendWith([replica])], [READS]);
  });
});
