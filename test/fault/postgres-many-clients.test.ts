/** Very many clients, and slow or half-open ones, before the whole gateway process: what it leaves of them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import {
  queryMessage,
  sslRequest,
  startupMessage,
} from '../../gateway/plugins/backend/postgres/wire/frontend-messages.ts';
import { PeakMemory } from '../fixtures/peak-memory.ts';
import { POSTGRES_VERSIONS, postgresTitle, requirePostgres } from '../fixtures/postgres.ts';
import { until } from '../fixtures/restarts.ts';
import { listSessions } from '../fixtures/shop-catalog.ts';
import { addUpShop, type UpShop } from '../fixtures/up-shop.ts';
import { WireClient } from '../fixtures/wire-client.ts';
import type { Workload } from '../fixtures/workload.ts';
import { type RunningUp, startUp } from '../fixtures/writ-up.ts';

/** 10000 within a minute before a release. */
const CONNECTS = Number(process.env.WRIT_FAULT_CONNECTS ?? 1000);
/** Sessions of one identity that `writ up`'s gateway has open at most. */
const MOST_SESSIONS = 100;
const AT_ONCE = 120;
const MOST_GROWN_BYTES = 128 * 1024 * 1024;
/** Far above the gateway's own 10 s for a handshake and 10 s for a StartupMessage. */
const ENDED_MS = 50_000;

for (const version of POSTGRES_VERSIONS) {
  describe(`very many clients of a gateway before ${postgresTitle(version)}`, () => {
    let up: RunningUp;
    let shop: UpShop;
    let workload: Workload;
    before(async function () {
      this.timeout(90_000);
      requirePostgres(this, version);
      up = await startUp();
      shop = await addUpShop(up, { version, settings: { max_connections: '300' } });
      workload = await shop.workload('crowd');
    });
    after(async function () {
      this.timeout(30_000);
      await workload?.[Symbol.asyncDispose]();
      await shop?.[Symbol.asyncDispose]();
      await up?.[Symbol.asyncDispose]();
    });

    /** @returns the SQLSTATE that it is refused with */
    async function come(): Promise<string | undefined> {
      try {
        const client = await shop.connect(workload);
        assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
        await client.end();
        return undefined;
      } catch (error) {
        if (error instanceof pg.DatabaseError && error.severity === 'FATAL') return error.code;
        throw error;
      }
    }

    async function crowd(connects: number): Promise<Map<string, number>> {
      const outcomes = new Map<string, number>();
      let left = connects;
      const work = async () => {
        while (left > 0) {
          left -= 1;
          const outcome = (await come()) ?? 'served';
          outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, work));
      return outcomes;
    }

    const openFiles = () => readdirSync(`/proc/${up.json.pids.gateway}/fd`).length;

    async function untilNothingIsLeft(): Promise<void> {
      await until(async () => (await shop.leftovers()).length === 0, 20_000, 'no role is left');
      const none = async () => (await listSessions(up, true)).length === 0;
      await until(none, 20_000, 'no session is open');
    }

    it('are refused with 53300 above the limit, and served again below it', async () => {
      const held: pg.Client[] = [];
      while (held.length < MOST_SESSIONS) held.push(await shop.connect(workload));
      assert.equal(await come(), '53300');
      const freed = held.pop();
      await freed?.end();
      await until(async () => (await come()) === undefined, 10_000, 'there is room again');
      for (const client of held) await client.query('select 1');
      await Promise.all(held.map((client) => client.end()));
      await untilNothingIsLeft();
    }).timeout(90_000);

    it(`leave neither roles nor descriptors nor memory behind, ${CONNECTS} of them`, async () => {
      await crowd(2 * AT_ONCE);
      await untilNothingIsLeft();
      const warm = openFiles();
      const memory = new PeakMemory(up.json.pids.gateway);
      const outcomes = await crowd(CONNECTS);
      await untilNothingIsLeft();
      assert.ok(
        [...outcomes.keys()].every((one) => ['served', '53300'].includes(one)),
        `${[...outcomes]}`,
      );
      assert.ok((outcomes.get('served') ?? 0) > 0);
      // Connections to the database and to the server that are kept for the next may be more by now.
      await until(() => openFiles() <= warm + 8, 20_000, `no more than ${warm} descriptors`);
      const grown = memory.grown();
      assert.ok(grown < MOST_GROWN_BYTES, `grown by ${grown} bytes`);
    }).timeout(120_000 + CONNECTS * 100);
  });
}

describe('a slow or half-open client of a gateway', () => {
  let up: RunningUp;
  let shop: UpShop;
  let workload: Workload;
  before(async function () {
    this.timeout(90_000);
    const version = POSTGRES_VERSIONS.at(-1) ?? 18;
    requirePostgres(this, version);
    up = await startUp();
    shop = await addUpShop(up, { version });
    workload = await shop.workload('slow');
  });
  after(async function () {
    this.timeout(30_000);
    await workload?.[Symbol.asyncDispose]();
    await shop?.[Symbol.asyncDispose]();
    await up?.[Symbol.asyncDispose]();
  });

  const port = () => Number(workload.config().port);

  async function secure(): Promise<WireClient> {
    const { ssl } = workload.config();
    if (typeof ssl !== 'object') throw new Error('no TLS');
    return WireClient.secure(port(), ssl);
  }

  const startup = () =>
    startupMessage([
      ['user', 'app'],
      ['database', shop.backend],
    ]);

  const SLOW: Readonly<Record<string, () => Promise<WireClient>>> = {
    'says nothing': () => WireClient.plain(port()),
    'stops in its SSLRequest': async () => {
      const client = await WireClient.plain(port());
      client.send(sslRequest().subarray(0, 5));
      return client;
    },
    'stops in its ClientHello': async () => {
      const client = await WireClient.plain(port());
      client.send(sslRequest());
      await once(client.socket, 'readable');
      client.send(Buffer.from('16030100f8010000f4', 'hex'));
      return client;
    },
    'says nothing behind its handshake': secure,
    'stops in its StartupMessage': async () => {
      const client = await secure();
      client.send(startup().subarray(0, -3));
      return client;
    },
    'trickles its StartupMessage for ever': async () => {
      const client = await secure();
      const bytes = startup();
      const timer = setInterval(() => client.send(bytes.subarray(0, 1)), 3000);
      client.socket.once('close', () => clearInterval(timer));
      client.send(Buffer.from([0, 0, 0x20, 0]));
      return client;
    },
  };

  it('is ended by a timer at each step before its session, while others are served', async () => {
    const clients = await Promise.all(
      Object.entries(SLOW).map(async ([what, begin]) => ({ what, client: await begin() })),
    );
    const open = new Set(clients.map(({ what }) => what));
    for (const { what, client } of clients) {
      client.socket.on('close', () => open.delete(what)).resume();
    }
    while (open.size > 0) {
      await (await shop.connect(workload)).end();
      await sleep(500);
    }
  }).timeout(ENDED_MS);

  it('is served byte by byte, if it comes to its end', async () => {
    const client = await secure();
    for (const byte of Buffer.concat([startup(), queryMessage('select 41 + 1')])) {
      client.send(Buffer.from([byte]));
      await sleep(1);
    }
    await client.until('Z');
    const answer = await client.until('Z');
    assert.ok(answer.some(({ type, body }) => type === 'D' && body.toString().endsWith('42')));
    client.socket.destroy();
  }).timeout(30_000);

  it('costs no memory for a message that it announces and does not send', async () => {
    const clients: WireClient[] = [];
    for (let count = 0; count < 20; count += 1) {
      const client = await secure();
      client.send(startup());
      await client.until('Z');
      clients.push(client);
    }
    const memory = new PeakMemory(up.json.pids.gateway);
    for (const client of clients)
      client.send(Buffer.from('5103fffff0', 'hex'), Buffer.from('select'));
    await (await shop.connect(workload)).end();
    assert.ok(memory.grown() < 64 * 1024 * 1024, `grown by ${memory.grown()} bytes`);
    for (const client of clients) client.socket.destroy();
    await until(async () => (await shop.leftovers()).length === 0, 20_000, 'no role is left');
  }).timeout(60_000);
});
