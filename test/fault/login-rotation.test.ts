/** A rotation of a backend's login, with live sessions, and with a crash between each two of its steps. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { GatewayApi } from '../../gateway/access/gateway-api.ts';
import {
  type RotationAccess,
  rotationAccess,
} from '../../gateway/plugins/backend/postgres/upstream/rotation-steps.ts';
import { onEachPostgres } from '../fixtures/each-postgres.ts';
import { type PlainLogin, RotatingShop, SECRET, TWIN } from '../fixtures/rotating-shop.ts';
import {
  LOGIN,
  LOGIN_PASSWORD,
  rolesThatCanLogIn,
  SHOP_READER,
  SHOP_SQL,
} from '../fixtures/shop-database.ts';
import { type ShopGateway, startShopGateway } from '../fixtures/shop-gateway.ts';

const FIRST: PlainLogin = { user: LOGIN, password: LOGIN_PASSWORD };
const AT_ONCE = 4;
const CONNECTS = 40;
const LEASE_MS = 30_000;

onEachPostgres('a rotation of the login', (server) => {
  let shop: RotatingShop;
  before(() => server().exec(SHOP_SQL));
  beforeEach(async () => {
    shop = await RotatingShop.create(server());
  });
  afterEach(() => shop[Symbol.asyncDispose]());

  /** Logs in over and over until it is told to stop. */
  const connectInLoop = async (
    gateway: ShopGateway,
    { signal, onConnected }: { readonly signal: AbortSignal; onConnected(): void },
  ): Promise<void> => {
    while (!signal.aborted) {
      await using client = await gateway.connect(SHOP_READER);
      await client.query('select count(*) from orders');
      onConnected();
    }
  };

  /** At least two, and on until so many clients have connected; the logins that were given up. */
  const rotateUntil = async (isEnough: () => boolean): Promise<PlainLogin[]> => {
    const former: PlainLogin[] = [];
    while (former.length < 2 || !isEnough()) {
      former.push(await shop.current());
      await shop.begin();
      assert.equal(await shop.until(), 'done');
    }
    return former;
  };

  /** What a rotation must leave behind, however it came there. */
  const assertConsistent = async (of: PlainLogin, former: PlainLogin) => {
    assert.ok(await shop.takes(of), 'the login in use');
    assert.ok(!(await shop.takes(former)), 'the former login');
    const { user, password } = await shop.current();
    assert.deepEqual({ user, password }, { user: of.user, password: of.password });
    const rows = await server().exec(
      `select rolname from pg_roles where rolname ~ '^${LOGIN}' and rolcanlogin`,
    );
    assert.deepEqual(rows, [{ rolname: of.user }], 'one of the pair can log in');
  };

  it('G63 fails no client that connects meanwhile, and takes no session from its client', async function () {
    this.timeout(240_000);
    const options = { secret: SECRET, vault: shop.forGateway };
    const start = (gateway: string) =>
      startShopGateway(server(), [SHOP_READER], { ...options, gateway });
    await using first = await start('first');
    await using second = await start('second');
    await using lasting = await first.connect(SHOP_READER);
    const stop = new AbortController();
    const gateways = Array.from({ length: AT_ONCE }, (_, n) => (n % 2 === 0 ? first : second));
    let connects = 0;
    const onConnected = () => {
      connects += 1;
    };
    const clients = Promise.all(
      gateways.map((gateway) => connectInLoop(gateway, { signal: stop.signal, onConnected })),
    );
    const failed = clients.then(() => assert.fail('the clients ended'));
    const former = await Promise.race([rotateUntil(() => connects >= CONNECTS), failed]);
    stop.abort();
    await clients;
    assert.equal((await lasting.query('select 1 as one')).rows[0]?.one, 1);
    assert.deepEqual(
      former.slice(0, 2).map(({ user }) => user),
      [LOGIN, TWIN],
    );
    for (const login of former) assert.ok(!(await shop.takes(login)));
    await assertConsistent(await shop.current(), former.at(-1) ?? FIRST);
    await using after = await second.connect(SHOP_READER);
    await after.query('select 1');
    await after.end();
    await lasting.end();
  });

  it('leaves no session role behind, by whichever of the two logins it was made', async () => {
    const options = { secret: SECRET, vault: shop.forGateway };
    {
      await using gateway = await startShopGateway(server(), [SHOP_READER], options);
      await using client = await gateway.connect(SHOP_READER);
      await shop.begin();
      assert.equal(await shop.until(), 'done');
      await client.query('select 1');
      await client.end();
    }
    assert.deepEqual(await rolesThatCanLogIn(server()), []);
    const left = await server().exec(
      `select rolname from pg_roles where rolname ~ '^writ_[0-9a-f]{16}$'`,
    );
    assert.deepEqual(left, []);
  });

  describe('G64 comes to its end after a crash of the gateway', () => {
    const crashes: readonly [string, Crash][] = [
      ['before it has set the password', { before: 'set_twin_password' }],
      ['when it has set the password', { after: 'set_twin_password' }],
      ['when it has logged in, before it says so', { report: 1 }],
      ['before it takes the former password', { before: 'retire_twin' }],
      ['when it has taken the former password', { after: 'retire_twin' }],
      ['when it has seen that it opens nothing, before it says so', { report: 2 }],
    ];
    for (const [when, crash] of crashes)
      it(when, async () => {
        await shop.begin();
        const crashed = new AbortController();
        {
          await using _ = shop.startWorker(crashing(shop, crash, crashed));
          if (!crashed.signal.aborted) await once(crashed.signal, 'abort');
          // The login that gateways get works all the time.
          assert.ok(await shop.takes(await shop.current()));
        }
        shop.world.clock.jump(LEASE_MS);
        await using _ = shop.startWorker();
        assert.equal(await shop.until(), 'done');
        const current = await shop.current();
        assert.equal(current.user, TWIN);
        await assertConsistent(current, FIRST);
      });
  });

  it('G64 comes to its end after a crash of the server at each step', async () => {
    await shop.begin();
    await shop.restartServer();
    {
      await using _ = shop.startWorker();
      await shop.until('retiring');
      await shop.restartServer();
      assert.equal(await shop.until(), 'done');
    }
    await shop.restartServer();
    await assertConsistent(await shop.current(), FIRST);
  });

  describe('G63 is undone where the new login is not proved', () => {
    /** Somebody takes the twin's right to connect: it has its password, and opens nothing. */
    const refusing: RotationAccess = {
      ...rotationAccess,
      async prove(address, login) {
        await server().exec(`alter role ${login.user} nologin`);
        await rotationAccess.prove(address, login);
      },
    };

    it('and the login in use goes on', async () => {
      const options = { secret: SECRET, vault: shop.forGateway };
      await shop.begin();
      await using _ = shop.startWorker({ access: refusing });
      assert.equal(await shop.until(), 'failed');
      const [event] = await shop.world.events('rotation.failed');
      assert.equal(event?.reason, 'the backend refuses the new login');
      await assertConsistent(FIRST, { user: TWIN, password: 'any' });
      await using gateway = await startShopGateway(server(), [SHOP_READER], options);
      await using client = await gateway.connect(SHOP_READER);
      await client.query('select 1');
      await client.end();
    });

    it('G64 also after a crash of the gateway in the middle of that', async () => {
      await shop.begin();
      const crashed = new AbortController();
      {
        const crash = crashing(shop, { after: 'retire_twin' }, crashed);
        const access = { ...refusing, control: crash.access.control };
        await using _ = shop.startWorker({ ...crash, access });
        if (!crashed.signal.aborted) await once(crashed.signal, 'abort');
      }
      shop.world.clock.jump(LEASE_MS);
      await using _ = shop.startWorker();
      assert.equal(await shop.until(), 'failed');
      await assertConsistent(FIRST, { user: TWIN, password: 'any' });
    });

    it('and says so where the backend was not set up for it', async () => {
      await server().exec('drop function writ.set_twin_password(text)');
      await shop.begin();
      await using _ = shop.startWorker();
      await shop.until('undoing');
      const [event] = await shop.world.events('rotation.failed');
      assert.match(event?.reason ?? '', /run writ backend setup again/);
      assert.equal(await shop.until(), 'failed');
      await assertConsistent(FIRST, { user: TWIN, password: 'any' });
    });
  });
});

/** Where a gateway dies: around a statement, or in place of its nth report. */
interface Crash {
  readonly before?: string;
  readonly after?: string;
  readonly report?: number;
}

/** A gateway that does nothing any more from one point on, as after kill -9. */
function crashing(
  shop: RotatingShop,
  crash: Crash,
  crashed: AbortController,
): { readonly api: GatewayApi; readonly access: RotationAccess } {
  const die = (): never => {
    crashed.abort();
    throw new Error('killed');
  };
  const alive = () => (crashed.signal.aborted ? die() : undefined);
  let reports = 0;
  const { api } = shop;
  return {
    api: {
      ...api,
      takeRotation: async (request, options) => {
        alive();
        return api.takeRotation(request, options);
      },
      reportRotation: async (request, options) => {
        alive();
        reports += 1;
        return reports === crash.report ? die() : api.reportRotation(request, options);
      },
    },
    access: {
      prove: async (address, login) => {
        alive();
        await rotationAccess.prove(address, login);
      },
      control(backend, login) {
        const control = rotationAccess.control(backend, login);
        return {
          async query(text, values) {
            alive();
            if (crash.before !== undefined && text.includes(crash.before)) die();
            const rows = await control.query(text, values);
            if (crash.after !== undefined && text.includes(crash.after)) die();
            return rows;
          },
          locate: () => control.locate(),
          [Symbol.asyncDispose]: () => control[Symbol.asyncDispose](),
        };
      },
    },
  };
}
