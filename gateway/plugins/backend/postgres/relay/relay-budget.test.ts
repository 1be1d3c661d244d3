import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { RowLines } from '../../../../../cli/row-lines.ts';
import { ResultRowsSchema } from '../../../../../proto/gen/writ/gateway/v1/recording_pb.ts';
import {
  POSTGRES_VERSIONS,
  postgresTitle,
  requirePostgres,
  startPostgres,
  type TestPostgres,
} from '../../../../../test/fixtures/postgres.ts';
import {
  bind,
  cells,
  execute,
  parse,
  query,
  sync,
} from '../../../../../test/fixtures/relay-world.ts';
import { errorOf, typesOf, WireClient } from '../../../../../test/fixtures/wire-client.ts';
import {
  startWireGateway,
  type WireGateway,
  type WireOptions,
} from '../../../../../test/fixtures/wire-gateway.ts';

for (const version of POSTGRES_VERSIONS) {
  describe(`budgets before ${postgresTitle(version)}`, function () {
    this.timeout(60_000);
    let server: TestPostgres;
    let wire: WireGateway | undefined;
    before(async function () {
      requirePostgres(this, version);
      server = await startPostgres({ version, tls: false });
      await server.exec('create table items (id int primary key, name text)');
      await server.exec("insert into items values (1, 'one'), (2, null)");
      await server.exec('grant all on items to public');
    });
    afterEach(() => wire?.[Symbol.asyncDispose]());
    after(() => server?.[Symbol.asyncDispose]());

    async function connect(options: WireOptions): Promise<WireClient> {
      wire = await startWireGateway(server, options);
      return WireClient.ready(wire.port, wire.tls);
    }

    it('ends the session before the first byte beyond the budget', async () => {
      const client = await connect({ limits: { bytes: 200_000n } });
      client.send(query("select repeat('x', 1000) from generate_series(1, 1000)"));
      const messages = await client.rest();
      const error = errorOf(messages);
      assert.deepEqual([error?.severity, error?.sqlstate], ['FATAL', '53400']);
      assert.match(error?.message ?? '', /200000 bytes in a session/);
      const got = cells(messages).length;
      assert.ok(got > 0 && got < 200, `${got} rows`);
      assert.ok(Number(wire?.sessions[0]?.session.counts.bytesDown) <= 200_000);
    });

    it('says nothing in the middle of a row that is cut off', async () => {
      const client = await connect({ limits: { bytes: 300_000n } });
      client.send(query("select repeat('x', 5000000)"));
      const messages = await client.rest();
      assert.ok(!typesOf(messages).includes('E'), typesOf(messages));
    });

    it('runs no statement beyond the budget', async () => {
      const client = await connect({ limits: { statements: 2n } });
      client.send(query('select 1'));
      await client.until('Z');
      client.send(parse('', 'select 2'), bind(''), execute(), sync());
      await client.until('Z');
      client.send(query("insert into items values (99, 'never')"));
      assert.equal(errorOf(await client.rest())?.sqlstate, '53400');
      assert.equal(wire?.sessions[0]?.events.filter((e) => e.case === 'statement').length, 2);
    });

    it('P10: ends the session with a constraint error too many, and does not show that one', async () => {
      const client = await connect({ limits: { errors: 2 } });
      const probe = query("insert into items values (1, 'guess')");
      for (let n = 0; n < 2; n += 1) {
        client.send(probe);
        assert.equal(errorOf(await client.until('Z'))?.sqlstate, '23505');
      }
      client.send(probe);
      assert.equal(errorOf(await client.rest())?.sqlstate, '53400');
    });

    for (const [what, messages] of [
      ['a transaction', [query('begin')]],
      ['a failed transaction', [query('begin'), query('selekt')]],
      ['a pipeline without Sync', [parse('', 'select 1'), bind(''), execute(), flush()]],
    ] as const) {
      it(`P12: ends a session that is idle in ${what}`, async () => {
        const limits = { idleInTransaction: durationFromMs(300) };
        const client = await connect({ limits });
        client.send(...messages);
        const error = errorOf((await client.rest()).filter(({ body }) => body.includes('FATAL')));
        assert.equal(error?.sqlstate, '25P03');
      });
    }

    it('P12: does not end one that works, or is idle outside of a transaction', async () => {
      const client = await connect({ limits: { idleInTransaction: durationFromMs(300) } });
      for (const sql of ['begin', 'select pg_sleep(0.6)', 'commit']) {
        client.send(query(sql));
        await client.until('Z');
      }
      await new Promise((resolve) => setTimeout(resolve, 600));
      client.send(query('select 1'));
      assert.equal(cells(await client.until('Z')).length, 1);
    });

    it('keeps result rows byte for byte where the grant says so', async () => {
      const client = await connect({ keepsRows: true });
      client.send(query('select id, name from items where id < 3 order by id'));
      const messages = await client.until('Z');
      const kept = (wire?.sessions[0]?.events ?? []).flatMap((event) =>
        event.case === 'rows' ? [Buffer.from(event.value.data ?? [])] : [],
      );
      const got = messages.map(({ type, body }) => {
        const header = Buffer.alloc(5);
        header.write(type);
        header.writeInt32BE(body.length + 4, 1);
        return Buffer.concat([header, body]);
      });
      assert.deepEqual(Buffer.concat(kept), Buffer.concat(got));
      const rows = new RowLines();
      const bytes = [...Buffer.concat(kept)].map((byte) => Buffer.from([byte]));
      assert.deepEqual(
        bytes.flatMap((data) => rows.lines(create(ResultRowsSchema, { data }))),
        ['| id=1, name=one', '| id=2, name=NULL'],
      );
    });

    it('keeps none where it does not', async () => {
      const client = await connect({});
      client.send(query('select 1'));
      await client.until('Z');
      assert.ok(wire?.sessions[0]?.events.every((event) => event.case !== 'rows'));
    });
  });
}

function flush(): Buffer {
  return Buffer.from([0x48, 0, 0, 0, 4]);
}
