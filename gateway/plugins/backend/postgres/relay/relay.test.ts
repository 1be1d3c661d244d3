import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { systemClock } from '../../../../../runtime/clock.ts';
import { Fault } from '../../../../../runtime/fault.ts';
import {
  POSTGRES_VERSIONS,
  postgresTitle,
  requirePostgres,
} from '../../../../../test/fixtures/postgres.ts';
import { skipWithout } from '../../../../../test/fixtures/programs.ts';
import {
  bind,
  cells,
  closeStatement,
  describeStatement,
  execute,
  parse,
  query,
  RelayWorld,
  recordOf,
  statusOf,
  sync,
} from '../../../../../test/fixtures/relay-world.ts';
import { errorOf, typesOf, WireClient } from '../../../../../test/fixtures/wire-client.ts';
import { int16, int32, message } from '../wire/message-body.ts';

const run = promisify(execFile);
const sleep = (ms: number) => systemClock.wait(ms, AbortSignal.timeout(60_000));

for (const version of POSTGRES_VERSIONS) {
  describe(`relay before ${postgresTitle(version)}`, function () {
    this.timeout(60_000);
    let world: RelayWorld;
    before(async function () {
      requirePostgres(this, version);
      world = await RelayWorld.start(version);
    });
    after(async () => world?.[Symbol.asyncDispose]());
    beforeEach(() => world.connect());
    afterEach(() => world.client.socket.destroy());

    describe('simple queries', () => {
      it('ties each result to its statement', async () => {
        await world.ask(query('select 1; select id from items limit 2'));
        await world.ask(query(''));
        await world.ask(query("select 'x'::int"));
        await world.ask(query('update items set name = name where id < 4'));
        assert.deepEqual(recordOf(world.session), [
          '1 | read | select 1; select id from items limit 2',
          '1 | SELECT 1 | 1 rows',
          '1 | SELECT 2 | 2 rows',
          '2 | read',
          '2 | 0 rows',
          "3 | read | select 'x'::int",
          '3 | 0 rows | 22P02',
          '4 | write | update items set name = name where id < 4',
          '4 | UPDATE 3 | 3 rows',
        ]);
        assert.equal(world.session.session.counts.statements, 4);
        assert.equal(world.session.session.counts.rows, 3);
      });

      it('records a statement before the backend has it, and syncs before it writes', async () => {
        const before = world.session.events.length;
        world.client.send(query('select pg_sleep(0.2)'));
        await sleep(80);
        assert.deepEqual(recordOf(world.session).slice(before), [
          '1 | read | select pg_sleep(0.2)',
        ]);
        await world.client.until('Z');
        assert.deepEqual(world.session.syncs, []);
        await world.ask(query('insert into items values (5000)'));
        assert.deepEqual(world.session.syncs, [3], 'after the statement, before its result');
        await world.ask(query('delete from items where id = 5000'));
      });

      it('answers a refused statement with 42501 and lives on', async () => {
        const messages = await world.ask(query('select forbidden'));
        assert.equal(typesOf(messages), 'EZ');
        assert.deepEqual(errorOf(messages), {
          severity: 'ERROR',
          sqlstate: '42501',
          message: 'refused by the gateway: forbidden-word',
        });
        assert.equal(statusOf(messages), 'I');
        assert.deepEqual(cells(await world.ask(query('select 7'))), ['7']);
        assert.deepEqual(recordOf(world.session).slice(0, 2), [
          '1 | read | select forbidden | forbidden-word',
          '1 | 0 rows | 42501',
        ]);
      });

      it('leaves the transaction failed after a refused statement, as the backend would', async () => {
        await world.ask(query('begin'));
        assert.equal(statusOf(await world.ask(query('select forbidden'))), 'E');
        assert.equal(errorOf(await world.ask(query('select 1')))?.sqlstate, '25P02');
        assert.equal(statusOf(await world.ask(query('rollback'))), 'I');
      });

      it('runs nothing of a text of which one statement is refused', async () => {
        await world.ask(query('insert into items values (6000); select forbidden'));
        assert.deepEqual(
          cells(await world.ask(query('select count(*) from items where id = 6000'))),
          ['0'],
        );
      });

      it('keeps pipelined queries apart', async () => {
        world.client.send(query('select 1'), query('select forbidden'), query('select 3'));
        const all = await world.answers(3);
        assert.equal(typesOf(all), 'TDCZEZTDCZ');
        assert.deepEqual(cells(all), ['1', '3']);
      });

      it('refuses a FunctionCall as a statement', async () => {
        const call = message('F', int32(2274), int16(0), int16(0), int16(0));
        const messages = await world.ask(call);
        assert.equal(typesOf(messages), 'EZ');
        assert.equal(errorOf(messages)?.sqlstate, '42501');
        assert.deepEqual(cells(await world.ask(query('select 7'))), ['7']);
      });

      it('refuses a text that is not UTF-8 or longer than 16 MiB, and lives on', async () => {
        const broken = message('Q', Buffer.from("select '\xff'\0", 'latin1'));
        assert.equal(errorOf(await world.ask(broken))?.sqlstate, '22021');
        const long = query(`select '${'x'.repeat(16 * 1024 * 1024 - 8)}'`);
        assert.equal(errorOf(await world.ask(long))?.sqlstate, '54000');
        const longest = query(`select 8, '${'x'.repeat(16 * 1024 * 1024 - 12)}'`);
        assert.equal(typesOf(await world.ask(longest)), 'TDCZ');
        assert.deepEqual(cells(await world.ask(query('select 7'))), ['7']);
      });
    });

    describe('the end of a session', () => {
      for (const [what, bytes] of [
        ['an unknown message', message('y')],
        ['a password message', message('p', Buffer.alloc(4))],
        ['a length that lies', Buffer.from([0x51, 0xff, 0xff, 0xff, 0xff])],
        ['a length beyond all bounds', Buffer.from([0x51, 0x7f, 0xff, 0xff, 0xff])],
        ['a Query with bytes behind its text', message('Q', Buffer.from('select 1\0x'))],
        ['a Bind that ends early', message('B', Buffer.from('\0\0'))],
        ['a Sync with a body', message('S', Buffer.alloc(1))],
      ] as const) {
        it(`comes with ${what}`, async () => {
          world.client.send(bytes);
          const error = errorOf(await world.client.rest());
          assert.deepEqual([error?.severity, error?.sqlstate], ['FATAL', '08P01']);
        });
      }

      it('comes when the rows of the grant are used up, and not a row later', async () => {
        const messages = await (async () => {
          world.client.send(query('select i from generate_series(1, 100000) i'));
          return world.client.rest();
        })();
        assert.equal(cells(messages).length, 3000);
        const error = errorOf(messages);
        assert.deepEqual([error?.severity, error?.sqlstate], ['FATAL', '53400']);
        assert.equal(world.session.session.counts.rows, 3000);
      });

      it('P11 comes when a pinned setting changes behind the guard', async () => {
        for (const change of [
          "set client_encoding = 'SQL_ASCII'",
          "select set_config('standard_conforming_strings', 'off', false)",
        ]) {
          using other = await WireClient.ready(world.wire.port, world.wire.tls);
          other.send(query(change), query('select 1'));
          const messages = await other.rest();
          assert.equal(errorOf(messages)?.severity, 'FATAL', change);
          assert.deepEqual(cells(messages).slice(0, -1), [], 'nothing after the change');
        }
      });

      it('comes with a NotificationResponse, which nobody judged', async () => {
        await world.ask(query('listen a'));
        await world.server.exec("notify a, 'secret'");
        world.client.send(query('select 1'));
        const messages = await world.client.rest();
        assert.ok(!messages.some(({ type }) => type === 'A'));
        assert.equal(errorOf(messages)?.severity, 'FATAL');
      });

      it('comes when the record cannot be written, before the statement has an effect', async () => {
        world.session.failRecording(
          new Fault('RECORDING_UNWRITABLE', 'the record cannot be written'),
        );
        world.client.send(query('insert into items values (7000)'));
        assert.equal(errorOf(await world.client.rest())?.severity, 'FATAL');
        const [row] = await world.server.exec(
          'select count(*)::int as n from items where id = 7000',
        );
        assert.equal(row?.n, 0);
      });
    });

    describe('large values', () => {
      it('pass unharmed in both directions, whatever their bytes', async () => {
        const value = Buffer.alloc(8 * 1024 * 1024);
        for (let index = 0; index < value.length; index += 1) value[index] = (index * 31) & 0xff;
        const other = new pg.Client(world.wire.clientConfig);
        await other.connect();
        const { rows } = await other.query({ text: 'select $1::bytea as v', values: [value] });
        assert.ok(value.equals(rows[0].v));
        await other.end();
      });

      it('do not pile up in the gateway before a client that is slow', async () => {
        world.client.send(query("select repeat('x', 1000000) from generate_series(1, 1000)"));
        await sleep(200);
        const before = process.memoryUsage().rss;
        await sleep(500);
        const grown = process.memoryUsage().rss - before;
        assert.ok(grown < 64 * 1024 * 1024, `${grown} bytes`);
        assert.ok(
          world.session.session.counts.rows < 500,
          `${world.session.session.counts.rows} rows`,
        );
      });
    });

    it('survives ten thousand mutated batches', async () => {
      const base = Buffer.concat([
        query('select 1'),
        parse('s', 'select $1::int'),
        bind('s', 'p', ['1']),
        describeStatement('s'),
        execute('p'),
        closeStatement('s'),
        sync(),
      ]);
      let seed = 42;
      const random = (below: number) => {
        seed = (seed * 1_103_515_245 + 12_345) & 0x7fffffff;
        return seed % below;
      };
      for (let round = 0; round < 200; round += 1) {
        using other = await WireClient.ready(world.wire.port, world.wire.tls);
        const batches = Array.from({ length: 50 }, () => {
          const bytes = Buffer.from(base);
          bytes[random(bytes.length)] = random(256);
          return bytes.subarray(0, bytes.length - random(3));
        });
        other.socket.end(Buffer.concat(batches));
        await other.rest();
      }
      assert.deepEqual(cells(await world.ask(query('select 7'))), ['7']);
    }).timeout(120_000);

    it('serves psql, its \\copy, and pgbench in all three query modes', async function () {
      const bin = world.server.clientBin;
      if (bin === undefined) skipWithout(this, 'psql and pgbench');
      const psql = (...args: string[]) =>
        run(`${bin}/psql`, ['-X', '-At', world.wire.connectionString, ...args]);
      const { stdout } = await psql(
        '-c',
        'select count(*) from items',
        '-c',
        '\\copy (select 1) to stdout',
      );
      assert.equal(stdout, '1000\n1\n');
      await assert.rejects(
        psql('-v', 'ON_ERROR_STOP=1', '-c', 'select forbidden'),
        /forbidden-word/,
      );
      const script = join(dirname(world.wire.files.ca), 'select.sql');
      await writeFile(script, '\\set id random(1, 1000)\nselect name from items where id = :id;\n');
      for (const mode of ['simple', 'extended', 'prepared']) {
        const args = [
          '-n',
          '-M',
          mode,
          '-t',
          '50',
          '-c',
          '4',
          '-f',
          script,
          world.wire.connectionString,
        ];
        const { stdout: report } = await run(`${bin}/pgbench`, args);
        assert.match(report, /transactions actually processed: 200\/200/);
      }
    });
  });
}
