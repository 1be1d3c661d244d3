/** The whole gateway process dies at each step of a session's life: what its sessions come to. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  queryMessage,
  sslRequest,
  startupMessage,
} from '../../gateway/plugins/backend/postgres/wire/frontend-messages.ts';
import { message } from '../../gateway/plugins/backend/postgres/wire/message-body.ts';
import { POSTGRES_VERSIONS, postgresTitle, requirePostgres } from '../fixtures/postgres.ts';
import { until, untilRestarted } from '../fixtures/restarts.ts';
import { listSessions } from '../fixtures/shop-catalog.ts';
import { type Stall, StallingRelay } from '../fixtures/stalling-relay.ts';
import { addUpShop, type UpShop } from '../fixtures/up-shop.ts';
import { WireClient } from '../fixtures/wire-client.ts';
import type { Workload } from '../fixtures/workload.ts';
import { type RunningUp, startUp } from '../fixtures/writ-up.ts';

/** After which nothing of a gateway that died may be left, from its restart on. */
const PROMISED_MS = 10_000;
const RIGHTS = {
  select: ['public.customers', 'public.orders'],
  insert: ['public.orders'],
  statements: ['read', 'write'],
};

/** Where the relay before the database stops what the gateway says on a session's behalf. */
const STALLED: Readonly<Record<string, Stall>> = {
  'a role is being opened': { text: 'writ.open_session', at: 'request' },
  'a role is opened and the gateway has not heard of it': {
    text: 'writ.open_session',
    at: 'answer',
  },
  'the role logs in': { text: /user\0writ_[0-9a-f]{16}\0/, at: 'request' },
  'the role has logged in and is not sealed': { text: 'writ.seal_session', at: 'request' },
  'the session is closing': { text: 'writ.close_session', at: 'request' },
};

for (const version of POSTGRES_VERSIONS) {
  describe(`G11 a gateway that is killed, before ${postgresTitle(version)}`, () => {
    let up: RunningUp;
    let shop: UpShop;
    let relay: StallingRelay;
    let workload: Workload;
    beforeEach(async function () {
      this.timeout(90_000);
      requirePostgres(this, version);
      up = await startUp();
      shop = await addUpShop(up, {
        version,
        async at(server) {
          relay = await StallingRelay.before(server.port);
          return relay.port;
        },
      });
      workload = await shop.workload('doomed', { postgres: RIGHTS });
    });
    afterEach(async function () {
      this.timeout(30_000);
      await workload?.[Symbol.asyncDispose]();
      await shop?.[Symbol.asyncDispose]();
      await relay?.[Symbol.asyncDispose]();
      await up?.[Symbol.asyncDispose]();
    });

    /** Before the StartupMessage. */
    async function dial(): Promise<WireClient> {
      const { port, ssl } = workload.config();
      if (typeof ssl !== 'object') throw new Error('no TLS');
      return WireClient.secure(Number(port), ssl);
    }

    const startup = () =>
      startupMessage([
        ['user', 'app'],
        ['database', shop.backend],
      ]);

    async function session(): Promise<WireClient> {
      const client = await dial();
      client.send(startup());
      const answer = await client.until('Z');
      assert.equal(answer.at(-1)?.type, 'Z');
      return client;
    }

    /** Each client stands at its step when this resolves. */
    async function clientsAtEachStep(): Promise<WireClient[]> {
      const { port } = workload.config();
      const connected = await WireClient.plain(Number(port));
      const half = await WireClient.plain(Number(port));
      half.send(sslRequest().subarray(0, 3));
      const handshaking = await WireClient.plain(Number(port));
      handshaking.send(sslRequest());
      await once(handshaking.socket, 'readable');
      const secured = await dial();
      const starting = await dial();
      starting.send(startup().subarray(0, 9));
      const idle = await session();
      const inTransaction = await session();
      inTransaction.send(
        queryMessage('begin; insert into orders (customer_id, total) values (1, 1)'),
      );
      await inTransaction.until('Z');
      const inStatement = await session();
      inStatement.send(queryMessage('select pg_sleep(600)'));
      const copyingIn = await session();
      copyingIn.send(queryMessage('copy orders (customer_id, total, note) from stdin'));
      assert.equal((await copyingIn.until('G')).at(-1)?.type, 'G');
      copyingIn.send(message('d', Buffer.from('1\t1\tdoomed\n')));
      const copyingOut = await session();
      copyingOut.send(queryMessage('copy (select generate_series(1, 100000000)) to stdout'));
      await copyingOut.until('H');
      copyingOut.socket.pause();
      const sleeping = async () => {
        const found = await shop.server.exec(
          `select 1 from pg_stat_activity where usename ~ '^writ_[0-9a-f]{16}$' and wait_event = 'PgSleep'`,
        );
        return found.length === 1;
      };
      await until(sleeping, 10_000, 'the statement runs');
      const before = [connected, half, handshaking, secured, starting];
      return [...before, idle, inTransaction, inStatement, copyingIn, copyingOut];
    }

    async function killGateway(): Promise<void> {
      const { gateway } = up.json.pids;
      process.kill(gateway, 'SIGKILL');
      await until(() => !isAlive(gateway), 5000, 'it is dead');
      relay.drop();
      await untilRestarted(up, 'gateway', gateway);
    }

    async function assertNothingIsLeft(): Promise<void> {
      const nothing = async () => (await shop.leftovers()).length === 0;
      await until(nothing, PROMISED_MS, 'no role and no session is left').catch(async (error) => {
        assert.deepEqual(await shop.leftovers(), [], String(error));
      });
      const none = async () => (await listSessions(up, true)).length === 0;
      await until(none, PROMISED_MS, 'no session is listed as open');
      const names = await shop.server.exec(
        `select rolname from pg_roles where rolname ~ '^writ_[0-9a-f]{16}$'`,
      );
      assert.deepEqual(names, []);
    }

    it('leaves nothing 10 s after its restart, whatever step its clients were at', async () => {
      const clients = await clientsAtEachStep();
      assert.notDeepEqual(await shop.leftovers(), []);
      await killGateway();
      await assertNothingIsLeft();
      for (const client of clients) client.socket.destroy();
      const [orders] = await shop.server.exec('select count(*)::int as n from orders');
      assert.equal(orders?.n, 2, 'no row of what was under way');
      await (await shop.connect(workload)).end();
    }).timeout(90_000);

    it('leaves nothing 10 s after its restart, whatever it was doing in the database', async () => {
      for (const [step, stall] of Object.entries(STALLED)) {
        const closing = step === 'the session is closing' ? await session() : undefined;
        const stalled = relay.stall(stall);
        const client = closing ?? (await dial());
        if (closing === undefined) client.send(startup());
        else client.socket.destroy();
        await stalled;
        await killGateway();
        await assertNothingIsLeft();
        client.socket.destroy();
        await (await shop.connect(workload)).end();
        await assertNothingIsLeft();
      }
    }).timeout(180_000);
  });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
