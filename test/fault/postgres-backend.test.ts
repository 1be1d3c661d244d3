/** A database that resets, lies or is none at all, and clients that are slow, silent or very many. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { HEADER_BYTES } from '../../gateway/plugins/backend/postgres/wire/frames.ts';
import { queryMessage } from '../../gateway/plugins/backend/postgres/wire/frontend-messages.ts';
import {
  cstring,
  int32,
  message,
} from '../../gateway/plugins/backend/postgres/wire/message-body.ts';
import {
  POSTGRES_VERSIONS,
  postgresTitle,
  requirePostgres,
  startPostgres,
  type TestPostgres,
} from '../fixtures/postgres.ts';
import { TamperingRelay } from '../fixtures/tampering-relay.ts';
import { errorOf, WireClient } from '../fixtures/wire-client.ts';
import { startWireGateway, type WireGateway } from '../fixtures/wire-gateway.ts';

/** 10000 within a minute before a release. */
const CONNECTS = Number(process.env.WRIT_FAULT_CONNECTS ?? 150);
const AT_ONCE = 40;
const HALF_OPEN = 100;
const MOST_HELD_BYTES = 96 * 1024 * 1024;
const DATA_ROW = 0x44;
const PARAMETER_STATUS = 0x53;

for (const version of POSTGRES_VERSIONS) {
  describe(`The gateway before a faulty ${postgresTitle(version)}`, function () {
    this.timeout(60_000);
    let server: TestPostgres;
    let relay: TamperingRelay;
    let wire: WireGateway;
    before(async function () {
      requirePostgres(this, version);
      server = await startPostgres({ version });
      relay = await TamperingRelay.before(server.port);
      wire = await startWireGateway({ ...server, port: relay.port });
    });
    after(async () => {
      await wire?.[Symbol.asyncDispose]();
      await relay?.[Symbol.asyncDispose]();
      await server?.[Symbol.asyncDispose]();
    });
    afterEach(async () => {
      relay.tamper = undefined;
      await untilNothingIsOpen();
      await assertServes();
      await untilNothingIsOpen();
    });

    async function untilNothingIsOpen(): Promise<void> {
      const isOpen = async () =>
        wire.sessions.some(({ disposed }) => !disposed) || (await wire.roles()).length > 0;
      for (let left = 250; left > 0 && (await isOpen()); left -= 1) await sleep(20);
      assert.deepEqual(await wire.roles(), []);
      assert.ok(wire.sessions.every(({ disposed }) => disposed));
    }

    async function assertServes(): Promise<void> {
      const client = new pg.Client(wire.clientConfig);
      await client.connect();
      assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
      await client.end();
    }

    const ready = () => WireClient.ready(wire.port, wire.tls);

    it('tells the client when the backend resets the connection between two rows', async () => {
      using client = await ready();
      relay.tamper = (bytes) => (bytes.includes('the answer') ? 'reset' : bytes);
      client.send(queryMessage("select 'the answer'"));
      const error = errorOf(await client.rest());
      assert.equal(error?.sqlstate, '08006');
    });

    for (const length of [-0x80000000, -1, 0, 3, 0x7fffffff]) {
      it(`hands on no row whose length is ${length}`, async () => {
        using client = await ready();
        relay.tamper = (bytes) => {
          const changed = Buffer.from(bytes);
          const at = changed.indexOf('the answer') - 11;
          if (at < 0 || changed[at] !== DATA_ROW) return bytes;
          changed.writeInt32BE(length, at + 1);
          return changed;
        };
        client.send(queryMessage("select 'the answer'"));
        const messages = await client.rest();
        assert.deepEqual(
          messages.map(({ type }) => type),
          ['T', 'E'],
        );
        assert.equal(errorOf(messages)?.sqlstate, '08P01');
      });
    }

    it('refuses a session where something else than PostgreSQL answers', async () => {
      for (const words of [
        'HTTP/1.1 400 Bad Request\r\n\r\n',
        '\x4a\0\0\0\x0a8.0.36\0',
        '\0'.repeat(99),
      ]) {
        relay.tamper = () => Buffer.from(words, 'latin1');
        const client = new pg.Client(wire.clientConfig);
        client.on('error', () => undefined);
        await assert.rejects(client.connect(), (error: Error) => {
          assert.ok(!error.message.includes('8.0.36') && !error.message.includes('HTTP'));
          return true;
        });
        await client.end().catch(() => undefined);
      }
    });

    for (const version of ['9.6.24', '7.4', '999.0devel', 'garbage', '', '1'.repeat(10_000)]) {
      it(`serves before a database that calls itself ${version.slice(0, 12) || 'nothing'}`, async () => {
        relay.tamper = (bytes) => retold(bytes, 'server_version', version);
        using client = await ready();
        client.send(queryMessage('select 6 * 7'));
        const answer = await client.until('Z');
        assert.ok(answer.some(({ type, body }) => type === 'D' && body.toString().endsWith('42')));
      });
    }

    it('refuses a database that answers in another version of the protocol', async () => {
      for (const lie of [
        message('v', int32(0x3_0002), int32(0)),
        message('v', int32(0x3_0000), int32(1), cstring('_pq_.unheard_of')),
        message('R', int32(2)),
        message('R', int32(5), Buffer.from('salt')),
        message('R', int32(0)),
      ]) {
        relay.tamper = (bytes) => {
          relay.tamper = undefined;
          return Buffer.concat([lie, bytes]);
        };
        const client = new pg.Client(wire.clientConfig);
        client.on('error', () => undefined);
        await assert.rejects(client.connect(), { code: '08006' });
        await client.end().catch(() => undefined);
      }
    });

    it('holds little for a client that does not read', async () => {
      using client = await ready();
      const before = process.memoryUsage.rss();
      client.socket.pause();
      client.send(queryMessage("select repeat('x', 1000) from generate_series(1, 500000)"));
      let most = 0;
      for (let look = 0; look < 20; look += 1) {
        await sleep(50);
        most = Math.max(most, process.memoryUsage.rss() - before);
      }
      assert.ok(most < MOST_HELD_BYTES, `${most} bytes`);
    });

    it('serves others beside clients that say nothing, or half a message', async () => {
      const silent = await Promise.all(
        Array.from({ length: HALF_OPEN }, (_, index) =>
          index % 2 === 0 ? WireClient.plain(wire.port) : WireClient.secure(wire.port, wire.tls),
        ),
      );
      for (const client of silent) client.send(Buffer.from([0, 0]));
      const opened = wire.sessions.length;
      await assertServes();
      assert.equal(wire.sessions.length, opened + 1);
      for (const { socket } of silent) {
        socket.destroy();
        if (!socket.closed) await once(socket, 'close');
      }
    });

    it(`opens and closes ${CONNECTS} sessions in a row, and leaves nothing`, async () => {
      let left = CONNECTS;
      const go = async () => {
        while (left > 0) {
          left -= 1;
          await assertServes();
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, go));
      await untilNothingIsOpen();
      const [row] = await server.exec(
        "select count(*)::int as n from pg_stat_activity where usename ~ '^writ_' or usename is null and backend_type = 'client backend'",
      );
      assert.equal(row?.n, 0);
    }).timeout(60_000 + CONNECTS * 100);
  });
}

/** A setting that the server reports, with another value. */
function retold(bytes: Buffer, name: string, value: string): Buffer {
  const at = bytes.indexOf(`${name}\0`, 'latin1') - HEADER_BYTES;
  if (at < 0 || bytes[at] !== PARAMETER_STATUS) return bytes;
  const end = at + 1 + bytes.readInt32BE(at + 1);
  const instead = message('S', cstring(name), cstring(value));
  return Buffer.concat([bytes.subarray(0, at), instead, bytes.subarray(end)]);
}
