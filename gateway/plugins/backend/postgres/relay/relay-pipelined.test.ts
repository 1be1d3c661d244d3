import assert from 'node:assert/strict';
import { serialize } from 'pg-protocol';
import { systemClock } from '../../../../../runtime/clock.ts';
import {
  POSTGRES_VERSIONS,
  postgresTitle,
  requirePostgres,
} from '../../../../../test/fixtures/postgres.ts';
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
  sync,
} from '../../../../../test/fixtures/relay-world.ts';
import { errorOf, typesOf, WireClient } from '../../../../../test/fixtures/wire-client.ts';
import { cstring, message } from '../wire/message-body.ts';
import { readExactly } from '../wire/read-exactly.ts';

const sleep = (ms: number) => systemClock.wait(ms, AbortSignal.timeout(60_000));

for (const version of POSTGRES_VERSIONS) {
  describe(`relay of pipelined messages before ${postgresTitle(version)}`, function () {
    this.timeout(60_000);
    let world: RelayWorld;
    before(async function () {
      requirePostgres(this, version);
      world = await RelayWorld.start(version);
    });
    after(async () => world?.[Symbol.asyncDispose]());
    beforeEach(() => world.connect());
    afterEach(() => world.client.socket.destroy());

    describe('the extended protocol', () => {
      it('records a statement with its values when it is bound', async () => {
        const text = 'select $1::text, $2::int';
        const messages = await world.ask(
          parse('', text),
          bind('', '', ['a', null]),
          execute(),
          sync(),
        );
        assert.equal(typesOf(messages), '12DCZ');
        const [statement] = world.session.events;
        assert.ok(statement?.case === 'statement');
        assert.deepEqual(
          statement.value.parameters?.map(({ content }) => content?.value),
          ['a', 'null'],
        );
        assert.deepEqual(recordOf(world.session), [`1 | read | ${text}`, '1 | SELECT 1 | 1 rows']);
      });

      it('keeps named statements that were prepared in an earlier batch', async () => {
        await world.ask(
          parse('s1', 'select 1'),
          parse('s2', 'select 2'),
          describeStatement('s1'),
          sync(),
        );
        const messages = await world.ask(
          bind('s2', 'p2'),
          bind('s1', 'p1'),
          execute('p1'),
          execute('p2'),
          sync(),
        );
        assert.deepEqual(cells(messages), ['1', '2']);
        assert.deepEqual(recordOf(world.session), [
          '1 | read | select 2',
          '2 | read | select 1',
          '2 | SELECT 1 | 1 rows',
          '1 | SELECT 1 | 1 rows',
        ]);
      });

      it('follows a portal that is suspended and resumed', async () => {
        const messages = await world.ask(
          query('begin'),
          parse('', 'select id from items order by id limit 5'),
          bind('', 'p'),
          execute('p', 2),
          execute('p', 2),
          execute('p', 2),
          sync(),
        );
        const rest = await world.client.until('Z');
        assert.equal(typesOf([...messages, ...rest]), 'CZ12DDsDDsDCZ');
        const record = recordOf(world.session).filter((line) => line.startsWith('2'));
        assert.deepEqual(record, [
          '2 | read | select id from items order by id limit 5',
          '2 | 2 rows',
          '2 | 2 rows',
          '2 | SELECT 1 | 1 rows',
        ]);
      });

      it('skips to Sync after a refused Parse, and lives on', async () => {
        const messages = await world.ask(
          parse('', 'select forbidden'),
          bind(''),
          describeStatement(''),
          execute(),
          query('select 1'),
          sync(),
        );
        assert.equal(typesOf(messages), 'EZ');
        assert.equal(errorOf(messages)?.message, 'refused by the gateway: forbidden-word');
        assert.deepEqual(recordOf(world.session), [
          '1 | read | select forbidden | forbidden-word',
          '1 | 0 rows | 42501',
        ]);
        const next = await world.ask(parse('', 'select 7'), bind(''), execute(), sync());
        assert.deepEqual(cells(next), ['7']);
      });

      it('refuses to bind a statement that it has not seen', async () => {
        await world.ask(query('prepare hidden as select 1'));
        const messages = await world.ask(bind('hidden'), execute(), sync());
        assert.equal(typesOf(messages), 'EZ');
        assert.equal(errorOf(messages)?.sqlstate, '42501');
      });

      it('records a Parse that fails', async () => {
        const messages = await world.ask(
          parse('', 'select nothing from nowhere'),
          bind(''),
          execute(),
          sync(),
        );
        assert.equal(typesOf(messages), 'EZ');
        assert.deepEqual(
          recordOf(world.session).at(-1),
          '2 | 0 rows | 42P01'.replace('2', String(world.session.session.counts.statements)),
        );
      });

      it('skips what comes after an error while the client has not seen it', async () => {
        world.client.send(
          parse('', 'select 1/(1 - id) from items where id = 1'),
          bind(''),
          execute(),
        );
        world.client.send(Buffer.from(serialize.flush()));
        await sleep(50);
        world.client.send(parse('s', 'select 2'), bind('s'), execute(), query('select 3'), sync());
        const messages = await world.client.until('Z');
        assert.equal(typesOf(messages), '12EZ');
        assert.equal(errorOf(await world.ask(bind('s'), execute(), sync()))?.sqlstate, '42501');
      });

      it('keeps pipelined batches apart when one of them fails', async () => {
        world.client.send(
          parse('a', 'select 1'),
          bind('a'),
          execute(),
          sync(),
          parse('b', 'select forbidden'),
          bind('b'),
          execute(),
          sync(),
          bind('a'),
          execute(),
          sync(),
        );
        const all = await world.answers(3);
        assert.equal(typesOf(all), '12DCZEZ2DCZ');
      });

      it('forgets a statement that is closed, and takes its name again', async () => {
        await world.ask(parse('s', 'select 1'), sync());
        const again = await world.ask(
          closeStatement('s'),
          parse('s', 'select 2'),
          bind('s'),
          execute(),
          sync(),
        );
        assert.equal(typesOf(again), '312DCZ');
        assert.deepEqual(cells(again), ['2']);
        await world.ask(closeStatement('s'), sync());
        assert.equal(errorOf(await world.ask(bind('s'), execute(), sync()))?.sqlstate, '42501');
      });

      it('keeps the statement that a name stands for when it is prepared over', async () => {
        await world.ask(parse('s', 'select 1'), sync());
        assert.equal(errorOf(await world.ask(parse('s', 'select 2'), sync()))?.sqlstate, '42P05');
        const messages = await world.ask(bind('s'), execute(), sync());
        assert.deepEqual(cells(messages), ['1']);
        assert.match(recordOf(world.session).at(-2) ?? '', /select 1$/);
      });

      it('ends a session that executes by a name whose preparation failed meanwhile', async () => {
        await world.ask(query('prepare s as select 666'));
        world.client.send(parse('s', 'select 1'), sync(), bind('s'), execute(), sync());
        const messages = await world.client.rest();
        assert.deepEqual(
          cells(messages),
          [],
          'not a row of a statement that the record does not show',
        );
        assert.equal(errorOf(messages.slice(-1))?.sqlstate, '08P01');
      });

      it('does not take a name that SQL has dropped and made again for the statement it knew', async () => {
        await world.ask(parse('s', 'select 1'), sync());
        world.client.send(
          query('deallocate s'),
          query('prepare s as select 666'),
          bind('s'),
          execute(),
          sync(),
        );
        const all = await world.answers(3);
        assert.equal(typesOf(all), 'CZCZEZ');
        assert.equal(errorOf(all)?.sqlstate, '42501');
      });

      it('records what a cursor of SQL gives when it is executed as a portal', async () => {
        await world.ask(query('begin; declare c cursor for select 1'));
        const messages = await world.ask(execute('c'), sync());
        assert.equal(typesOf(messages), 'DCZ');
        assert.match(recordOf(world.session).at(-2) ?? '', /other/);
      });

      it('refuses the ten thousand and first statement', async () => {
        const names = Array.from({ length: 10_001 }, (_, index) => parse(`n${index}`, 'select 1'));
        const messages = await world.ask(...names, sync());
        assert.equal(typesOf(messages), `${'1'.repeat(10_000)}EZ`);
        assert.equal(errorOf(messages)?.sqlstate, '54000');
      });

      it('refuses more than 16 MiB of prepared texts', async () => {
        const text = `select 1 /* ${'x'.repeat(1024 * 1024 - 20)} */`;
        const batch = Array.from({ length: 18 }, (_, index) => [parse(`n${index}`, text), sync()]);
        const answers: string[] = [];
        for (const messages of batch) answers.push(typesOf(await world.ask(...messages)));
        assert.deepEqual(answers, [...Array(17).fill('1Z'), 'EZ']);
      });

      it('holds back a client that does not wait for answers, and answers all', async () => {
        const batch = Buffer.concat(Array.from({ length: 100_000 }, sync));
        world.client.send(batch);
        const answer = message('Z', Buffer.from('I'));
        const length = 100_000 * answer.length;
        const answers = await readExactly(world.client.socket, length, AbortSignal.timeout(30_000));
        assert.ok(answers?.subarray(-answer.length).equals(answer));
      });
    });

    describe('COPY', () => {
      const data = (text: string) => message('d', Buffer.from(text));
      const done = () => message('c');

      it('takes data in and gives it out', async () => {
        await world.ask(query('create temp table t (a int, b text)'));
        world.client.send(query('copy t from stdin'));
        assert.equal((await world.client.next())?.type, 'G');
        const loaded = await world.ask(data('1\tx\n2\ty\n'), done());
        assert.equal(typesOf(loaded), 'CZ');
        const given = await world.ask(query('copy t to stdout'));
        assert.equal(typesOf(given), 'HddcCZ');
        assert.deepEqual(recordOf(world.session).slice(2), [
          '2 | write | copy t from stdin',
          '2 | COPY 2 | 2 rows',
          '3 | read | copy t to stdout',
          '3 | COPY 2 | 2 rows',
        ]);
      });

      it('takes data in by the extended protocol, whose Sync the backend ignores meanwhile', async () => {
        await world.ask(query('create temp table t (a int)'));
        world.client.send(parse('', 'copy t from stdin'), bind(''), execute(), sync());
        assert.equal(typesOf(await world.client.until('G')), '12G');
        const loaded = await world.ask(data('1\n'), sync(), data('2\n'), done(), sync());
        assert.equal(typesOf(loaded), 'CZ');
        assert.deepEqual(cells(await world.ask(query('select count(*) from t'))), ['2']);
      });

      it('lives on after CopyFail and after data that the backend refuses', async () => {
        await world.ask(query('create temp table t (a int)'));
        world.client.send(query('copy t from stdin'));
        await world.client.until('G');
        const failed = await world.ask(message('f', cstring('no more')));
        assert.equal(errorOf(failed)?.sqlstate, '57014');
        world.client.send(query('copy t from stdin'));
        await world.client.until('G');
        const refused = await world.ask(data('x\n'));
        assert.equal(errorOf(refused)?.sqlstate, '22P02');
        world.client.send(data('later\n'), done());
        assert.deepEqual(cells(await world.ask(query('select 7'))), ['7']);
      });

      it('passes on data that a client sends right behind its COPY, as pgx does', async () => {
        await world.ask(query('create temp table t (a int)'));
        const copy = query('copy t from stdin');
        const loaded = await world.ask(copy, data('1\n'), data('2\n'), done(), query('select 8'));
        assert.equal(typesOf(loaded), 'GCZ');
        assert.deepEqual(cells(await world.client.until('Z')), ['8']);
        world.client.send(copy, data('3\n'));
        await world.client.until('G');
        assert.equal(typesOf(await world.ask(data('4\n'), done())), 'CZ');
        const both = query('copy t from stdin; copy t from stdin; select 9');
        const nine = await world.ask(both, data('5\n'), done(), data('6\n'), done());
        assert.deepEqual(cells(nine), ['9']);
        const failed = await world.ask(copy, data('7\n'), message('f', cstring('no more')));
        assert.equal(errorOf(failed)?.sqlstate, '57014');
        assert.deepEqual(cells(await world.ask(query('select count(*) from t'))), ['6']);
      });

      it('passes over data behind a COPY that is refused, by the gateway or by the backend', async () => {
        for (const [text, sqlstate] of [
          ['copy forbidden from stdin', '42501'],
          ['copy not_there from stdin', '42P01'],
        ] as const) {
          const refused = await world.ask(query(text), data('1\n'));
          assert.equal(errorOf(refused)?.sqlstate, sqlstate);
          world.client.send(data('2\n'), done());
          assert.deepEqual(cells(await world.ask(query('select 7'))), ['7']);
        }
      });

      it('ends a session that sends COPY data within a batch, or a statement within COPY data', async () => {
        world.client.send(parse('', 'select 1'), data('1\n'));
        assert.equal(errorOf(await world.client.rest())?.sqlstate, '08P01');
        using early = await WireClient.ready(world.wire.port, world.wire.tls);
        early.send(query('create temp table t (a int)'));
        await early.until('Z');
        early.send(query('copy t from stdin'), query('select 1'));
        assert.equal(errorOf(await early.rest())?.sqlstate, '08P01');
        using other = await WireClient.ready(world.wire.port, world.wire.tls);
        other.send(query('create temp table t (a int)'));
        await other.until('Z');
        other.send(query('copy t from stdin'));
        await other.until('G');
        other.send(query('select 1'));
        assert.equal(errorOf(await other.rest())?.sqlstate, '08P01');
      });
    });
  });
}
