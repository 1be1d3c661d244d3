import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { parseTrustDomain, SpiffeId } from '../../../../identity/spiffe-id.ts';
import { systemClock } from '../../../../runtime/clock.ts';
import { createLogger } from '../../../../runtime/log.ts';
import { MetricsRegistry } from '../../../../runtime/metrics.ts';
import { Watched } from '../../../../runtime/watched.ts';
import { LEAK_CORPUS } from '../../../../test/fixtures/leak-corpus.ts';
import {
  POSTGRES_VERSIONS,
  postgresTitle,
  requirePostgres,
  startPostgres,
  type TestPostgres,
} from '../../../../test/fixtures/postgres.ts';
import {
  LOGIN_PASSWORD,
  rolesThatCanLogIn,
  SECRETS,
  SHOP,
  SHOP_SQL,
  setUpShop,
  shopBackend,
  shopColumns,
  shopGrant,
} from '../../../../test/fixtures/shop-database.ts';
import { startWire, type Wire } from '../../../../test/fixtures/wire.ts';
import { errorOf, WireClient } from '../../../../test/fixtures/wire-client.ts';
import { openWireSession, type WireSession } from '../../../../test/fixtures/wire-session.ts';
import { EMPTY_SNAPSHOT, type GatewaySnapshot } from '../../../access/snapshot.ts';
import { gatewayMetrics } from '../../../metrics.ts';
import type { SessionDesk } from '../../../session/session-desk.ts';
import type { TlsProtocol } from '../backend.ts';
import { postgresBackend } from './postgres.ts';
import { queryMessage, startupMessage } from './wire/frontend-messages.ts';

const READER = shopGrant('reporting', {
  select: ['public.customers', 'public.orders', 'app.stock'],
  statements: ['read'],
});

/** A secret in the ways in which it could stand in bytes. */
const FORBIDDEN = Object.values(SECRETS).flatMap((secret) => [
  secret,
  [...secret].reverse().join(''),
  secret.replaceAll('-', ''),
  Buffer.from(secret).toString('hex'),
  Buffer.from(secret).toString('base64'),
]);

for (const version of POSTGRES_VERSIONS) {
  describe(`postgresBackend before ${postgresTitle(version)}`, function () {
    this.timeout(60_000);
    const registry = new MetricsRegistry();
    const snapshot = new Watched<GatewaySnapshot>(EMPTY_SNAPSHOT);
    const stop = new AbortController();
    const trustDomain = parseTrustDomain('example.org');
    const sessions: WireSession[] = [];
    let logged = '';
    let directory: string;
    let server: TestPostgres;
    let protocol: TlsProtocol;
    let wire: Wire;

    before(async function () {
      requirePostgres(this, version);
      directory = await mkdtemp(join(tmpdir(), 'writ-test-protocol-'));
      const passwordFile = join(directory, 'password');
      await writeFile(passwordFile, LOGIN_PASSWORD, { mode: 0o600 });
      server = await startPostgres({ version });
      await server.exec(SHOP_SQL);
      await server.exec("create schema app; create table app.stock as select 'nail' as name");
      await setUpShop(server, [READER]);
      const backend = shopBackend(server, { passwordFile });
      snapshot.set({
        ...EMPTY_SNAPSHOT,
        revision: 1n,
        backends: new Map([[SHOP, backend]]),
        grants: new Map([[READER.name, READER]]),
        columns: shopColumns,
      });
      protocol = postgresBackend();
      await protocol.start({
        snapshot,
        jwtSvid: () => Promise.reject(new Error('no JWT-SVID is asked for here')),
        gatewayId: SpiffeId.fromSegments(trustDomain, 'writ', 'gateway', 'g'),
        trustDomain,
        api: () => assert.fail('a PostgreSQL backend asks the server nothing'),
        log: createLogger(
          { process: 'gateway', level: 'debug' },
          {
            write: (line) => {
              logged += line;
            },
          },
        ),
        clock: systemClock,
        metrics: gatewayMetrics(registry),
        signal: stop.signal,
        stateDir: directory,
      });
      const desk: SessionDesk = {
        async open(request) {
          const session = openWireSession(request, { grant: READER, backend });
          sessions.push(session);
          return session.session;
        },
      };
      wire = await startWire(
        {
          preface: (socket, signal) => protocol.preface(socket, signal),
          serve: (connection, signal) => protocol.serve(connection, desk, signal),
        },
        SHOP,
      );
    });
    after(async () => {
      await wire?.[Symbol.asyncDispose]();
      await protocol?.[Symbol.asyncDispose]();
      await server?.[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    });

    async function connected(): Promise<pg.Client> {
      const client = new pg.Client(wire.clientConfig);
      client.on('error', () => undefined);
      await client.connect();
      return client;
    }

    it('gives masked rows, by unqualified names, to who holds a grant', async () => {
      const client = await connected();
      const { rows } = await client.query('select name, ssn, email from customers order by id');
      assert.deepEqual(rows[0], { name: 'Ada', ssn: '*******8726', email: 'a***@example.com' });
      await client.end();
    });

    it('finds granted tables of other schemas, and what the client asks for behind the views', async () => {
      const client = await connected();
      assert.deepEqual((await client.query('select name from stock')).rows, [{ name: 'nail' }]);
      await client.end();
      const options = '-c search_path=public';
      const other = new pg.Client({ ...wire.clientConfig, options });
      await other.connect();
      await assert.rejects(other.query('select name from stock'), { code: '42P01' });
      assert.equal(
        (await other.query('select ssn from customers where id = 1')).rows[0].ssn,
        '*******8726',
      );
      await other.end();
    });

    it('P5 leaves no role that can log in, neither during a session nor after it', async () => {
      const client = await connected();
      assert.deepEqual(await rolesThatCanLogIn(server), []);
      await client.end();
      for (let left = 100; left > 0 && sessions.at(-1)?.disposed !== true; left -= 1) {
        await systemClock.wait(20, AbortSignal.timeout(5000));
      }
      const roles = await server.exec(
        "select 1 from pg_roles where rolname ~ '^writ_[0-9a-f]{16}$'",
      );
      assert.deepEqual(roles, []);
    });

    it('refuses by name what the grant does not give, and lives on', async () => {
      const client = await connected();
      for (const [sql, rule] of [
        ['insert into orders (customer_id) values (1)', 'write-not-granted'],
        ['drop table orders', 'ddl'],
        ["do $$ begin raise notice 'x'; end $$", 'do-block'],
        ["copy orders to program 'id'", 'copy-program'],
        ['set role postgres', 'set-role'],
        ['set standard_conforming_strings = off', 'pinned-setting'],
        ['listen x', 'listen-notify'],
      ] as const) {
        await assert.rejects(client.query(sql), {
          code: '42501',
          message: `refused by the gateway: ${rule}`,
        });
        await assert.rejects(client.query({ text: sql, values: [] }), { code: '42501' });
      }
      assert.equal((await client.query('select count(*)::int as n from orders')).rows[0].n, 2);
      await client.end();
    });

    it('tells what is wrong with a statement that it cannot read', async () => {
      const client = await connected();
      await assert.rejects(client.query('selct 1'), {
        code: '42601',
        message: 'refused by the gateway: unreadable-statement',
        hint: 'syntax error at or near "selct"',
      });
      const long = `select 1 where 1 in (${'1234567,'.repeat(150_000)}0)`;
      await assert.rejects(client.query(long), {
        code: '54000',
        message: 'refused by the gateway: statement-too-long',
        hint: 'Bind long values as parameters, or use COPY.',
      });
      const list = `select 1 as one where 1 in (${'1234567,'.repeat(14_000)}1)`;
      assert.deepEqual((await client.query(list)).rows, [{ one: 1 }]);
      await client.end();
    });

    it('judges long statements in a thread', async () => {
      const client = await connected();
      const rows = Array.from({ length: 20_000 }, (_, n) => `(${n}, 'number ${n} of many')`);
      const values = `(values ${rows.join(',')}) v`;
      const counted = await client.query(`select count(*)::int as n from ${values}`);
      assert.deepEqual(counted.rows, [{ n: 20_000 }]);
      await client.query('begin');
      await assert.rejects(
        client.query(`insert into orders (customer_id) select 1 from ${values}`),
        {
          code: '42501',
          message: 'refused by the gateway: write-not-granted',
        },
      );
      await assert.rejects(client.query('select 1'), { code: '25P02' });
      await client.query('rollback');
      const prepared = {
        name: 'long',
        text: `select $1::int as n from ${values} limit 1`,
        values: [7],
      };
      assert.deepEqual((await client.query(prepared)).rows, [{ n: 7 }]);
      assert.deepEqual((await client.query(prepared)).rows, [{ n: 7 }]);
      await client.end();
    });

    it('G20 shows no unmasked value to a client, in no byte, and none to the record', async () => {
      for (const sql of LEAK_CORPUS) {
        using client = await WireClient.secure(wire.port, wire.tls);
        client.send(
          startupMessage([
            ['user', 'u'],
            ['database', SHOP],
          ]),
        );
        await client.until('Z');
        client.send(queryMessage(sql));
        const messages = await client.until('Z');
        assert.ok(messages.length > 0);
        const bytes = Buffer.concat(messages.map(({ body }) => body)).toString('latin1');
        for (const form of FORBIDDEN) assert.ok(!bytes.includes(form), `${sql}: ${form}`);
      }
    });

    it('S9 keeps no classified literal or value in the record', async () => {
      const client = await connected();
      await client.query(`select id from customers where ssn = '${SECRETS.ssn}'`);
      await client.query({
        text: 'select id from customers where email = $1',
        values: [SECRETS.email],
      });
      await client.query(`select '${SECRETS.card}'`);
      await assert.rejects(client.query(`select '${SECRETS.apiKey}`));
      await client.end();
      const record = JSON.stringify(
        sessions.map(({ events }) => events),
        (_key, value) =>
          typeof value === 'bigint'
            ? String(value)
            : value instanceof Uint8Array
              ? Buffer.from(value).toString('latin1')
              : value,
      );
      assert.match(record, /where email = \$1/);
      for (const form of [...FORBIDDEN, LOGIN_PASSWORD]) {
        assert.ok(!record.includes(form), `record: ${form}`);
        assert.ok(!logged.includes(form), `log: ${form}`);
      }
    });

    it('counts statements by class and outcome', () => {
      const metrics = registry.render();
      assert.match(
        metrics,
        /writ_gateway_statements_total\{[^}]*class="read"[^}]*outcome="allowed"/,
      );
      assert.match(metrics, /writ_gateway_statements_total\{[^}]*outcome="denied"/);
      assert.match(
        metrics,
        /writ_gateway_backend_login_duration_seconds_count\{backend="shop"\} \d+/,
      );
    });

    it('serves no backend that its snapshot does not name any more', async () => {
      const client = await connected();
      const ended = new Promise((resolve) => client.once('end', resolve));
      const named = snapshot.value;
      snapshot.set({ ...named, revision: 2n, backends: new Map() });
      await ended;
      await assert.rejects(connected(), { code: '57P03' });
      snapshot.set({ ...named, revision: 3n });
      await systemClock.wait(50, AbortSignal.timeout(5000));
      await (await connected()).end();
    });

    it('tells a client when the backend is down', async () => {
      const down = shopBackend({ host: '127.0.0.1', port: 1 }, { passwordFile: '/nonexistent' });
      const named = snapshot.value;
      snapshot.set({ ...named, revision: 4n, backends: new Map([[SHOP, down]]) });
      await systemClock.wait(50, AbortSignal.timeout(5000));
      using client = await WireClient.secure(wire.port, wire.tls);
      client.send(
        startupMessage([
          ['user', 'u'],
          ['database', SHOP],
        ]),
      );
      const error = errorOf(await client.rest());
      assert.equal(error?.severity, 'FATAL');
      assert.match(error?.sqlstate ?? '', /^(08006|57P03)$/);
      snapshot.set({ ...named, revision: 5n });
    });
  });
}
