import assert from 'node:assert/strict';
import pg from 'pg';
import { systemClock } from '../../../../../runtime/clock.ts';
import { Fault } from '../../../../../runtime/fault.ts';
import {
  POSTGRES_VERSIONS,
  postgresTitle,
  requirePostgres,
  startPostgres,
  type TestPostgres,
} from '../../../../../test/fixtures/postgres.ts';
import { errorOf, STARTUP, WireClient } from '../../../../../test/fixtures/wire-client.ts';
import { startWireGateway, type WireGateway } from '../../../../../test/fixtures/wire-gateway.ts';
import type { WireSession } from '../../../../../test/fixtures/wire-session.ts';
import {
  cancelRequest,
  queryMessage,
  sslRequest,
  startupMessage,
} from '../wire/frontend-messages.ts';
import { int32 } from '../wire/message-body.ts';
import { readExactly } from '../wire/read-exactly.ts';

const TLS_ALERT = 0x15;
const sleep = (ms: number) => systemClock.wait(ms, AbortSignal.timeout(60_000));

for (const version of POSTGRES_VERSIONS) {
  describe(`serveClient before ${postgresTitle(version)}`, function () {
    this.timeout(60_000);
    let server: TestPostgres;
    let wire: WireGateway;
    let refuseOpen: Fault | undefined;
    let atSeal: ((role: string) => Promise<void>) | undefined;

    before(async function () {
      requirePostgres(this, version);
      // One version behind TLS and one in clear, so that both legs are driven.
      server = await startPostgres({ version, tls: version === 18 });
      await server.exec('create table items (id int primary key, name text)');
      await server.exec("insert into items select i, 'item ' || i from generate_series(1, 1000) i");
      wire = await startWireGateway(server, {
        open: () => {
          if (refuseOpen !== undefined) throw refuseOpen;
        },
        beforeSeal: async (role) => atSeal?.(role),
      });
    });
    after(async () => {
      await wire?.[Symbol.asyncDispose]();
      await server?.[Symbol.asyncDispose]();
    });

    async function connected(config: pg.ClientConfig = {}): Promise<pg.Client> {
      const client = new pg.Client({ ...wire.clientConfig, ...config });
      client.on('error', () => undefined);
      await client.connect();
      return client;
    }

    const ready = () => WireClient.ready(wire.port, tls());
    const tls = () => wire.tls;
    const lastSession = (): WireSession => {
      const last = wire.sessions.at(-1);
      assert.ok(last);
      return last;
    };

    /** Until the session is closed and its role is gone. */
    async function gone(session: WireSession): Promise<void> {
      for (let left = 100; left > 0 && !session.disposed; left -= 1) await sleep(20);
      assert.equal(session.disposed, true, 'the session is closed');
    }

    it('answers a query, records it and leaves no role', async () => {
      const client = await connected();
      const { rows } = await client.query('select count(*)::int as n from items');
      assert.deepEqual(rows, [{ n: 1000 }]);
      const session = lastSession();
      await client.end();
      await gone(session);
      assert.deepEqual(
        session.events.map(({ case: name }) => name),
        ['statement', 'result'],
      );
      assert.equal(session.endedBy, 'the client closed the connection');
      assert.deepEqual(await wire.roles(), []);
    });

    it('serves direct TLS', async () => {
      const client = await connected({ sslnegotiation: 'direct' } as pg.ClientConfig);
      assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
      await client.end();
    });

    it('names the backend by the database and the grant by the user, if it is one', async () => {
      const client = await connected({ user: 'reads-shop', application_name: 'nightly' });
      const { request } = lastSession();
      assert.equal(request.backend, 'orders-db');
      assert.equal(request.grant, 'reads-shop');
      assert.equal(String(request.peer.id), 'spiffe://example.org/reporting');
      assert.deepEqual(request.client, { user: 'reads-shop', application_name: 'nightly' });
      await client.end();
      await (await connected({ user: 'root' })).end();
      assert.equal(lastSession().request.grant, '');
    });

    it('P5 seals the role before the client can say a word', async () => {
      let sealed = false;
      let early: unknown;
      atSeal = async (role) => {
        const [row] = await server.exec(
          `select count(*)::int as n from pg_stat_activity where usename = '${role}'`,
        );
        assert.equal(row?.n, 1, 'the backend login comes first');
        early = await Promise.race([message, sleep(100)]);
        sealed = true;
      };
      using client = await WireClient.secure(wire.port, tls());
      client.send(startupMessage(STARTUP), queryMessage('select 1'));
      const message = client.next();
      assert.equal((await message)?.type, 'R');
      atSeal = undefined;
      assert.equal(sealed, true);
      assert.equal(early, undefined, 'not a byte before the seal');
      assert.deepEqual(
        (await wire.roles()).map(({ canLogIn }) => canLogIn),
        [false],
      );
    });

    it('tells the client that it gets protocol 3.0 if it asks for more', async () => {
      using client = await WireClient.secure(wire.port, tls());
      const packet = startupMessage([...STARTUP, ['_pq_.test', 'x']]);
      packet.writeInt32BE(196_610, 4);
      client.send(packet);
      const messages = await client.until('Z');
      assert.equal(messages[0]?.type, 'v');
      assert.deepEqual(messages[0]?.body.subarray(0, 8), Buffer.concat([int32(196_608), int32(1)]));
      const key = messages.find(({ type }) => type === 'K');
      assert.equal(key?.body.length, 8, 'a key of the length that 3.0 prescribes');
    });

    it('refuses at start-up with the reason, and opens nothing', async () => {
      const before = wire.sessions.length;
      for (const [settings, code] of [
        [{ options: '-c role=postgres' }, '42501'],
        [{ options: '-c session_authorization=postgres' }, '42501'],
        [{ replication: 'database' }, '42501'],
      ] as const) {
        await assert.rejects(connected(settings as pg.ClientConfig), { code });
      }
      assert.equal(wire.sessions.length, before);
    });

    it('tells a client without a grant what to do', async () => {
      refuseOpen = new Fault('PERMISSION_DENIED', 'you hold several grants: name one of a, b');
      await assert.rejects(connected(), {
        code: '28000',
        severity: 'FATAL',
        message: 'you hold several grants: name one of a, b',
        hint: /name as the user/,
      });
      refuseOpen = new Fault('UNAVAILABLE', 'no word from the server');
      await assert.rejects(connected(), { code: '57P03' });
      refuseOpen = new Fault('RESOURCE_EXHAUSTED', 'too many sessions');
      await assert.rejects(connected(), { code: '53300' });
      refuseOpen = new Fault('INTERNAL', 'internal error');
      await assert.rejects(connected(), { code: 'XX000', message: 'internal error' });
      refuseOpen = undefined;
    });

    it('ends what comes after the handshake and is no StartupMessage', async () => {
      for (const bytes of [queryMessage('select 1'), Buffer.from('GET / HTTP/1.1\r\n\r\n')]) {
        using client = await WireClient.secure(wire.port, tls());
        client.send(bytes);
        assert.equal(errorOf(await client.rest())?.sqlstate, '08P01');
      }
    });

    it('keeps the process id of the backend and hides its secret', async () => {
      using client = await WireClient.secure(wire.port, tls());
      client.send(startupMessage(STARTUP));
      const messages = await client.until('Z');
      const key = messages.find(({ type }) => type === 'K')?.body;
      client.send(queryMessage('select pg_backend_pid()'));
      const row = (await client.until('Z')).find(({ type }) => type === 'D')?.body;
      assert.equal(row?.subarray(6).toString(), String(key?.readInt32BE(0)));
    });

    it('G34 gives no session to a second SSLRequest, in clear or inside TLS', async () => {
      using twice = await WireClient.plain(wire.port);
      twice.send(sslRequest());
      assert.equal(String(await readExactly(twice.socket, 1, AbortSignal.timeout(5000))), 'S');
      twice.send(sslRequest());
      const [first] = await twice.socket.toArray();
      assert.ok(first === undefined || first[0] === TLS_ALERT, 'nothing but the end of TLS');
      using inside = await WireClient.secure(wire.port, tls());
      const sessions = wire.sessions.length;
      inside.send(sslRequest(), startupMessage(STARTUP));
      assert.equal(errorOf(await inside.rest())?.sqlstate, '0A000');
      assert.equal(wire.sessions.length, sessions);
    });

    it('G35 cancels with its own key, from the same address and identity alone', async () => {
      using client = await WireClient.secure(wire.port, tls());
      client.send(startupMessage(STARTUP));
      const key = (await client.until('Z')).find(({ type }) => type === 'K')?.body;
      assert.ok(key);
      const request = cancelRequest(key.readInt32BE(0), key.subarray(4));
      const wrong = Buffer.from(request);
      wrong.writeInt32BE(~wrong.readInt32BE(12), 12);
      client.send(queryMessage('select pg_sleep(30)'));
      const answered = client.until('Z');
      const stranger = { ...tls(), ...(await wire.issue('stranger')) };
      for (const [bytes, identity] of [
        [wrong, undefined],
        [wrong, tls()],
        [request, stranger],
      ] as const) {
        using other = await (identity === undefined
          ? WireClient.plain(wire.port)
          : WireClient.secure(wire.port, identity));
        other.send(bytes);
        assert.deepEqual(await other.rest(), []);
      }
      assert.equal(await Promise.race([answered.then(() => 'cancelled'), sleep(200)]), undefined);
      using other = await WireClient.secure(wire.port, tls());
      other.send(request);
      assert.equal(errorOf(await answered)?.sqlstate, '57014');
    });

    it('cancels in clear, as older clients do', async () => {
      using client = await WireClient.secure(wire.port, tls());
      client.send(startupMessage(STARTUP));
      const key = (await client.until('Z')).find(({ type }) => type === 'K')?.body;
      assert.ok(key);
      client.send(queryMessage('select pg_sleep(30)'));
      await sleep(50);
      using other = await WireClient.plain(wire.port);
      other.send(cancelRequest(key.readInt32BE(0), key.subarray(4)));
      assert.equal(errorOf(await client.until('Z'))?.sqlstate, '57014');
    });

    for (const [state, statement] of [
      ['idle', undefined],
      ['busy', 'select pg_sleep(30)'],
      [
        'in the middle of a transfer',
        'select repeat(i::text, 100) from generate_series(1, 20000000) i',
      ],
    ] as const) {
      it(`ends a session that is ${state} within a second, and says why`, async () => {
        using client = await ready();
        const session = lastSession();
        if (statement !== undefined) client.send(queryMessage(statement));
        const rest = client.rest();
        await sleep(100);
        const start = performance.now();
        session.terminate(new Fault('PERMISSION_DENIED', 'the grant was revoked: incident 7'));
        const messages = await rest;
        const endMs = performance.now() - start;
        await gone(session);
        const goneMs = performance.now() - start;
        const error = errorOf(messages);
        assert.deepEqual([error?.severity, error?.sqlstate], ['FATAL', '57P01']);
        assert.equal(error?.message, 'the grant was revoked: incident 7');
        assert.equal(messages.at(-1)?.type, 'E', 'the last word');
        assert.ok(endMs < 1000, `${endMs} ms to the end of the connection`);
        assert.ok(goneMs < 1500, `${goneMs} ms to the end of the role`);
        assert.deepEqual(await wire.roles(), []);
      });
    }

    it('ends a session whose client does not read', async () => {
      using client = await ready();
      const session = lastSession();
      client.send(queryMessage("select repeat('x', 1000) from generate_series(1, 10000000)"));
      await sleep(300);
      const start = performance.now();
      session.terminate(new Fault('PERMISSION_DENIED', 'revoked'));
      await gone(session);
      assert.ok(performance.now() - start < 1500);
      assert.deepEqual(await wire.roles(), []);
    });

    it('undoes everything when the session ends while it is being opened', async () => {
      atSeal = async () => {
        lastSession().terminate(new Fault('PERMISSION_DENIED', 'locked'));
      };
      await assert.rejects(connected(), { code: '57P01', message: 'locked' });
      atSeal = undefined;
      await gone(lastSession());
      assert.deepEqual(await wire.roles(), []);
    });

    it('undoes everything when the client leaves while its session is being opened', async () => {
      const client = await WireClient.secure(wire.port, tls());
      atSeal = async () => {
        client.socket.destroy();
        await sleep(50);
      };
      client.send(startupMessage(STARTUP));
      const before = wire.sessions.length;
      for (let left = 100; left > 0 && wire.sessions.length === before; left -= 1) await sleep(20);
      await gone(lastSession());
      atSeal = undefined;
      assert.deepEqual(await wire.roles(), []);
    });

    it('ends its sessions when the gateway stops, and tells their clients', async () => {
      const other = await startWireGateway(server);
      using client = await WireClient.ready(other.port, other.tls);
      const rest = client.rest();
      await other[Symbol.asyncDispose]();
      assert.equal(errorOf(await rest)?.message, 'the gateway is stopping');
    });

    it('hands on what the backend says when it ends the session', async () => {
      using client = await ready();
      const session = lastSession();
      const [role] = await wire.roles();
      await server.exec(
        `select pg_terminate_backend(pid) from pg_stat_activity where usename = '${role?.name}'`,
      );
      const error = errorOf(await client.rest());
      assert.equal(error?.sqlstate, '57P01');
      assert.match(error?.message ?? '', /administrator/);
      await gone(session);
    });

    it('closes a session when its client goes without a word', async () => {
      const client = await ready();
      const session = lastSession();
      client.send(queryMessage('select pg_sleep(30)'));
      await sleep(50);
      client.socket.destroy();
      await gone(session);
      assert.deepEqual(await wire.roles(), []);
      const active = await server.exec(
        "select count(*)::int as n from pg_stat_activity where query like '%pg_sleep(30)%' and pid <> pg_backend_pid()",
      );
      assert.equal(active[0]?.n, 0);
    });

    it('finishes what a client sent before its Terminate', async () => {
      using client = await ready();
      const session = lastSession();
      client.send(queryMessage('select pg_sleep(0.1)'), Buffer.from([0x58, 0, 0, 0, 4]));
      const messages = await client.rest();
      assert.deepEqual(
        messages.filter(({ type }) => type === 'C').map(({ body }) => body.toString()),
        ['SELECT 1\0'],
      );
      await gone(session);
    });

    it('opens and closes fifty sessions at once without leaving a role', async () => {
      const before = wire.sessions.length;
      await Promise.all(
        Array.from({ length: 50 }, async () => {
          const client = await connected();
          await client.query('select 1');
          await client.end();
        }),
      );
      for (const session of wire.sessions.slice(before)) await gone(session);
      assert.deepEqual(await wire.roles(), []);
    });
  });
}
