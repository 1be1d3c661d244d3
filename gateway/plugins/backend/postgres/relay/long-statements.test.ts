import assert from 'node:assert/strict';
import { Fault } from '../../../../../runtime/fault.ts';
import {
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
  recordOf,
  statusOf,
  sync,
} from '../../../../../test/fixtures/relay-world.ts';
import {
  errorOf,
  STARTUP,
  typesOf,
  WireClient,
  type WireMessage,
} from '../../../../../test/fixtures/wire-client.ts';
import { startWireGateway, type WireGateway } from '../../../../../test/fixtures/wire-gateway.ts';
import { cancelRequest, startupMessage } from '../wire/frontend-messages.ts';
import { type JudgedStatement, opaqueStatement, statementDenial } from './statement-log.ts';

/** A statement that is not read in the gateway's own thread. */
const long = (sql: string) => `${sql} /* ${'x'.repeat(9000)} */`;

interface Asked {
  readonly sql: string;
  readonly signal: AbortSignal;
  allow(): void;
  refuse(rule: string): void;
  fail(): void;
}

/** Verdicts on long statements, which the test gives. */
class Verdicts {
  readonly #asked: Asked[] = [];
  readonly #waiting: ((asked: Asked) => void)[] = [];

  ask(sql: string, signal: AbortSignal): Promise<JudgedStatement> {
    return new Promise((resolve, reject) => {
      const asked = {
        sql,
        signal,
        allow: () => resolve(opaqueStatement('read')),
        refuse: (rule: string) => resolve(opaqueStatement('read', statementDenial(rule))),
        fail: () => reject(new Fault('UNAVAILABLE', 'no thread')),
      };
      const waiting = this.#waiting.shift();
      if (waiting === undefined) this.#asked.push(asked);
      else waiting(asked);
    });
  }

  next(): Promise<Asked> {
    const asked = this.#asked.shift();
    if (asked !== undefined) return Promise.resolve(asked);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  get areOpen(): boolean {
    return this.#asked.length > 0;
  }
}

describe('relay of long statements', function () {
  this.timeout(60_000);
  let server: TestPostgres;
  let wire: WireGateway;
  let verdicts: Verdicts;
  let client: WireClient;
  before(async function () {
    requirePostgres(this, 15);
    server = await startPostgres({ version: 15 });
    wire = await startWireGateway(server, {
      judge: () => opaqueStatement('read'),
      judgeLong: (sql, signal) => verdicts.ask(sql, signal),
      limits: { idleInTransaction: { seconds: 1n } },
    });
  });
  after(async () => {
    await wire?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    verdicts = new Verdicts();
    client = await WireClient.ready(wire.port, wire.tls);
  });
  afterEach(() => client.socket.destroy());

  const ask = (...bytes: readonly Uint8Array[]) => {
    client.send(...bytes);
    return client.until('Z');
  };
  const answers = async (count: number) => {
    const all: WireMessage[] = [];
    for (let left = count; left > 0; left -= 1) all.push(...(await client.until('Z')));
    return all;
  };
  const session = () => {
    const last = wire.sessions.at(-1);
    if (last === undefined) throw new Error('no session');
    return last;
  };

  it('answers in order what stands before and behind them', async () => {
    client.send(
      query('select 1'),
      query(long('select 2')),
      query('select 3'),
      query(long('select 4')),
      query('select 5'),
    );
    assert.deepEqual(cells(await client.until('Z')), ['1']);
    const first = await verdicts.next();
    assert.match(first.sql, /^select 2 /);
    assert.deepEqual(recordOf(session()).length, 2, 'nothing behind it is recorded or run');
    first.allow();
    (await verdicts.next()).allow();
    assert.deepEqual(cells(await answers(4)), ['2', '3', '4', '5']);
  });

  it('asks for one at a time, and reads nothing behind it', async () => {
    client.send(query(long('select 1')), query(long('select 2')));
    const first = await verdicts.next();
    assert.ok(!verdicts.areOpen);
    first.refuse('some-rule');
    assert.match(errorOf(await client.until('Z'))?.message ?? '', /some-rule/);
    (await verdicts.next()).allow();
    assert.deepEqual(cells(await client.until('Z')), ['2']);
  });

  it('refuses with 42501 and lives on, in a transaction as the backend would', async () => {
    client.send(query('begin'), query(long('select 1')), query('select 2'), query('rollback'));
    (await verdicts.next()).refuse('some-rule');
    const all = await answers(4);
    assert.equal(typesOf(all), 'CZEZEZCZ');
    assert.equal(errorOf(all)?.sqlstate, '42501');
    assert.deepEqual(
      all.filter(({ type }) => type === 'Z').map(({ body }) => body.toString()),
      ['T', 'E', 'E', 'I'],
    );
    assert.deepEqual(cells(await ask(query('select 7'))), ['7']);
  });

  it('refuses what cannot be judged', async () => {
    client.send(query(long('select 1')));
    (await verdicts.next()).fail();
    const messages = await client.until('Z');
    const error = errorOf(messages);
    assert.deepEqual(
      [error?.sqlstate, error?.message],
      ['42501', 'refused by the gateway: statement-not-judged'],
    );
    assert.ok(messages[0]?.body.includes('no thread'));
    assert.equal(statusOf(await ask(query('select 7'))), 'I');
  });

  it('prepares one, once its verdict is there, and then runs it as any other', async () => {
    client.send(
      parse('p', long('select 1')),
      bind('p'),
      execute(),
      sync(),
      bind('p'),
      execute(),
      sync(),
    );
    (await verdicts.next()).allow();
    const all = await answers(2);
    assert.equal(typesOf(all), '12DCZ2DCZ');
  });

  it('skips to Sync behind a Parse that is refused', async () => {
    client.send(parse('p', long('select 1')), bind('p'), execute(), sync(), query('select 7'));
    (await verdicts.next()).refuse('some-rule');
    const all = await answers(2);
    assert.equal(typesOf(all), 'EZTDCZ');
  });

  it('leaves no verdict to the next statement if its own is skipped meanwhile', async () => {
    // The backend refuses the first Parse while the verdict on the second is out.
    client.send(
      parse('a', 'selct'),
      Buffer.from([0x48, 0, 0, 0, 4]),
      parse('b', long('select 1')),
      sync(),
      query(long('select 2')),
    );
    const skipped = await verdicts.next();
    assert.equal((await client.next())?.type, 'E');
    skipped.allow();
    assert.equal(typesOf(await client.until('Z')), 'Z');
    const other = await verdicts.next();
    assert.match(other.sql, /^select 2 /);
    other.refuse('some-rule');
    assert.match(errorOf(await client.until('Z'))?.message ?? '', /some-rule/);
  });

  it('gives the client what the backend says meanwhile', async () => {
    client.send(
      query("do $$ begin perform pg_sleep(0.1); raise notice 'late'; end $$"),
      query(long('select 1')),
    );
    const asked = await verdicts.next();
    assert.equal(typesOf(await client.until('Z')), 'NCZ');
    asked.allow();
    assert.deepEqual(cells(await client.until('Z')), ['1']);
  });

  it('is cancelled before its verdict, by the error that the server would give', async () => {
    using mine = await WireClient.secure(wire.port, wire.tls);
    mine.send(startupMessage(STARTUP));
    const key = (await mine.until('Z')).find(({ type }) => type === 'K')?.body;
    assert.ok(key !== undefined);
    mine.send(query(long('select 1')), query('select 2'));
    const asked = await verdicts.next();
    using canceller = await WireClient.secure(wire.port, wire.tls);
    canceller.send(cancelRequest(key.readInt32BE(0), key.subarray(4)));
    assert.equal(errorOf(await mine.until('Z'))?.sqlstate, '57014');
    assert.ok(asked.signal.aborted);
    assert.deepEqual(cells(await mine.until('Z')), ['2']);
  });

  it('ends with its session, and is not read any further', async () => {
    client.send(query(long('select 1')));
    const asked = await verdicts.next();
    session().terminate(new Fault('UNAVAILABLE', 'killed'));
    const error = errorOf(await client.rest());
    assert.deepEqual([error?.sqlstate, error?.message], ['57P01', 'killed']);
    assert.ok(asked.signal.aborted);
    asked.allow();
  });

  it('holds back a client that sends on', async () => {
    client.send(query(long('select 1')));
    const asked = await verdicts.next();
    const { counts } = session().session;
    const more = Array.from({ length: 2000 }, () => query(`select 1 /* ${'y'.repeat(4000)} */`));
    client.send(...more);
    using other = await WireClient.ready(wire.port, wire.tls);
    for (let count = 0; count < 10; count += 1) {
      other.send(query('select 1'));
      await other.until('Z');
    }
    assert.ok(counts.bytesUp < 1024 * 1024, `${counts.bytesUp} bytes`);
    asked.allow();
    assert.equal(cells(await answers(2001)).length, 2001);
  });

  it('is no transaction that waits for its client', async () => {
    await ask(query('begin'));
    client.send(query(long('select 1')));
    const asked = await verdicts.next();
    // Longer than a transaction may wait, by the same clock.
    await new Promise((resolve) => setTimeout(resolve, 1100));
    asked.allow();
    assert.deepEqual(cells(await client.until('Z')), ['1']);
  });
});
