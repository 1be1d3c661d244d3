/** G25: rows that are larger than what the gateway may hold, by the memory of its own process. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  queryMessage,
  startupMessage,
} from '../../gateway/plugins/backend/postgres/wire/frontend-messages.ts';
import { PeakMemory } from '../fixtures/peak-memory.ts';
import { POSTGRES_VERSIONS, postgresTitle, requirePostgres } from '../fixtures/postgres.ts';
import { until } from '../fixtures/restarts.ts';
import { addUpShop, type UpShop } from '../fixtures/up-shop.ts';
import { WireClient } from '../fixtures/wire-client.ts';
import type { Workload } from '../fixtures/workload.ts';
import { type RunningUp, startUp } from '../fixtures/writ-up.ts';

const MB = 1024 * 1024;
const ROW_BYTES = 256 * MB - 1024;
/** The longest row that is ever whole in the gateway: the window of G25. */
const WINDOW_BYTES = 32 * MB;
const MOST_GROWN_BYTES = 4 * WINDOW_BYTES;
/** All of an answer beside its one row's value. */
const MOST_OVERHEAD_BYTES = 200;

const ROWS: Readonly<Record<string, string>> = {
  'a row of 256 MB': `select repeat('x', ${ROW_BYTES})`,
  'a row of 256 MB by COPY': `copy (select repeat('x', ${ROW_BYTES})) to stdout`,
  'rows of 1 MB': `select repeat('x', ${MB}) from generate_series(1, 256)`,
};

for (const version of POSTGRES_VERSIONS) {
  describe(`G25 the memory of a gateway before ${postgresTitle(version)}`, () => {
    let up: RunningUp;
    let shop: UpShop;
    let workload: Workload;
    before(async function () {
      this.timeout(90_000);
      requirePostgres(this, version);
      up = await startUp();
      shop = await addUpShop(up, { version });
      workload = await shop.workload('large-rows');
      await (await shop.connect(workload)).end();
      // Buffers that are garbage are freed late the first time, and their memory is kept: a process that
      // has served such a row is the one to measure. The row itself was never whole in it.
      const memory = new PeakMemory(up.json.pids.gateway);
      using client = await session();
      const answer = new Answer(client);
      client.send(queryMessage(`select repeat('x', ${ROW_BYTES})`));
      await answer.isWhole;
      assert.ok(memory.grown() < ROW_BYTES, `grown by ${Math.round(memory.grown() / MB)} MB`);
    });
    after(async function () {
      this.timeout(30_000);
      await workload?.[Symbol.asyncDispose]();
      await shop?.[Symbol.asyncDispose]();
      await up?.[Symbol.asyncDispose]();
    });

    async function session(): Promise<WireClient> {
      const { port, ssl } = workload.config();
      if (typeof ssl !== 'object') throw new Error('no TLS');
      const client = await WireClient.secure(Number(port), ssl);
      client.send(
        startupMessage([
          ['user', 'app'],
          ['database', shop.backend],
        ]),
      );
      assert.equal((await client.until('Z')).at(-1)?.type, 'Z');
      return client;
    }

    async function isStuckWriting(): Promise<boolean> {
      const found = await shop.server.exec(
        `select 1 from pg_stat_activity where usename ~ '^writ_[0-9a-f]{16}$' and wait_event = 'ClientWrite'`,
      );
      return found.length === 1;
    }

    for (const [what, sql] of Object.entries(ROWS)) {
      it(`is bounded, for ${what} and a reader that stops in the middle of it`, async () => {
        using client = await session();
        const memory = new PeakMemory(up.json.pids.gateway);
        const answer = new Answer(client);
        client.send(queryMessage(sql));
        await answer.hasBegun;
        client.socket.pause();
        await until(isStuckWriting, 60_000, 'the database waits for the reader');
        assert.ok(answer.bytes < ROW_BYTES, 'the reader stopped in time');
        client.socket.resume();
        await answer.isWhole;
        const grown = memory.grown();
        assert.ok(grown < MOST_GROWN_BYTES, `grown by ${Math.round(grown / MB)} MB`);
        const rows = sql.includes('generate_series') ? 256 : 1;
        const overhead = answer.bytes - (rows === 1 ? ROW_BYTES : 256 * MB);
        assert.ok(overhead > 0 && overhead < rows * MOST_OVERHEAD_BYTES, `${overhead} bytes more`);
      }).timeout(180_000);
    }

    it('loses the connection in the middle of a row, and adds nothing to what went before', async () => {
      using client = await session();
      const answer = new Answer(client);
      client.send(queryMessage(`select repeat('x', ${ROW_BYTES})`));
      await answer.hasBegun;
      client.socket.pause();
      await until(isStuckWriting, 60_000, 'the database waits for the reader');
      await shop.server.exec(
        `select pg_terminate_backend(pid) from pg_stat_activity where usename ~ '^writ_[0-9a-f]{16}$'`,
      );
      const closed = once(client.socket, 'close');
      client.socket.resume();
      await closed;
      assert.ok(answer.bytes < ROW_BYTES, 'the row was cut off');
      assert.match(
        answer.tail,
        /^x+$/,
        'an error in the middle of a row would be taken for its value',
      );
      await until(async () => (await shop.leftovers()).length === 0, 5000, 'nothing is left');
    }).timeout(120_000);
  });
}

/** Counts what a client gets, and keeps its end. */
class Answer {
  bytes = 0;
  #tail = Buffer.alloc(0);
  /** A part of the first row is here. */
  readonly hasBegun: Promise<void>;
  /** ReadyForQuery is here. */
  readonly isWhole: Promise<void>;

  constructor({ socket }: WireClient) {
    let begun: () => void = () => undefined;
    this.hasBegun = new Promise((resolve) => {
      begun = resolve;
    });
    this.isWhole = new Promise((resolve, reject) => {
      socket.on('close', () => reject(new Error(`closed after ${this.bytes} bytes`)));
      socket.on('data', (chunk: Buffer) => {
        this.bytes += chunk.length;
        this.#tail = Buffer.concat([this.#tail.subarray(-100), chunk.subarray(-100)]);
        if (this.bytes > MB / 4) begun();
        if (this.tail.endsWith('Z\0\0\0\u0005I')) resolve();
      });
    });
    this.isWhole.catch(() => undefined);
  }

  get tail(): string {
    return this.#tail.subarray(-100).toString('latin1');
  }
}
