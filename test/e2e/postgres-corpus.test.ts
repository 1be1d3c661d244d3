/**
 * Done-when 1 of the PostgreSQL gateway: leak attempts and destructive statements, by each way of
 * protection and by none, with their tables. "None" is the positive control: what comes through there is
 * what an attempt can do.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { type Grant, Layout } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Closers } from '../../runtime/closers.ts';
import { type Attempt, type Heard, runAttempt } from '../corpus/attempt.ts';
import { destructiveAttempts, HELPERS_SQL, WITHOUT_EFFECT } from '../corpus/destructive.ts';
import { infer } from '../corpus/inference.ts';
import { leaksIn } from '../corpus/leak-forms.ts';
import { leakAttempts, OWNERS_HELPERS_SQL } from '../corpus/leaks.ts';
import { returnsTo, shopState } from '../corpus/shop-state.ts';
import { printTallies, Tally } from '../corpus/tally.ts';
import { Unprotected } from '../corpus/unprotected.ts';
import { GatewayEnforced } from '../fixtures/gateway-enforced.ts';
import {
  POSTGRES_VERSIONS,
  postgresTitle,
  requirePostgres,
  startPostgres,
  type TestPostgres,
} from '../fixtures/postgres.ts';
import { connectAs, SECRETS, SHOP_SQL, shopGrant } from '../fixtures/shop-database.ts';
import { type ShopGateway, startShopGateway } from '../fixtures/shop-gateway.ts';
import { WireClient } from '../fixtures/wire-client.ts';

const READS = { select: ['public.customers', 'public.orders'] };
const INSERTS = { ...READS, insert: ['public.orders'] };
const READER = shopGrant('corpus-reader');
const UNRULED_READER = shopGrant('corpus-unruled-reader', { ...READS, statements: ['any'] });
const CLERK = shopGrant('corpus-clerk', { ...INSERTS, statements: ['read', 'write'] });
const UNRULED_CLERK = shopGrant('corpus-unruled-clerk', { ...INSERTS, statements: ['any'] });
const GRANTS = [READER, UNRULED_READER, CLERK, UNRULED_CLERK];
const SQL = `${SHOP_SQL} ${HELPERS_SQL} ${OWNERS_HELPERS_SQL}; analyze`;
/** As the databases of clients are: a transaction may be prepared. */
const SETTINGS = { max_prepared_transactions: '5' };

/** What a mask shows of it. */
const SHOWN = `*******${SECRETS.ssn.slice(-4)}`;
/** Attempts that answer with a masked value, at the least, behind views and on the wire. */
const MASKED_ANSWERS = { views: 20, wire: 3 };
const LEAK_ATTEMPTS = 60;
const DESTRUCTIVE_ATTEMPTS = 50;
/** Leaks where nothing protects, at the least: the rest of the attempts ask for what shows by its absence. */
const UNPROTECTED_LEAKS = 100;
/**
 * What the wire alone lets through: it does not know that a column's name can call a function. Views and
 * rights are not concerned, nor is an account that may not do what the function does.
 */
const KNOWN_ON_THE_WIRE = ['a function of a row'];
/** Rows that a session of the wire layer can change for good: its account may. */
const RESTORE_ROWS_SQL = `
  delete from public.orders;
  insert into public.orders (id, customer_id, total, note) values (1, 1, 9.99, 'first'), (2, 2, 20, 'second')`;

const LAYOUTS = { front: Layout.FRONT, 'in-place': Layout.IN_PLACE } as const;

for (const version of POSTGRES_VERSIONS) {
  describe(`the corpus on ${postgresTitle(version)}`, () => {
    const closers = new Closers();
    const leaks: Tally[] = [];
    const destroyed: Tally[] = [];
    before(function () {
      requirePostgres(this, version);
    });
    after(async () => {
      await closers[Symbol.asyncDispose]();
      const attempts = leakAttempts(0).length;
      printTallies(`${attempts} leak attempts, PostgreSQL ${version}`, 'leaked', leaks);
      const statements = destructiveAttempts('', 0).length;
      printTallies(
        `${statements} destructive statements, PostgreSQL ${version}`,
        'executed',
        destroyed,
      );
    });

    /** @returns how many attempts answered with the masked form */
    async function tryLeaks(
      tally: Tally,
      attempts: readonly Attempt[],
      run: (attempt: Attempt) => Promise<Heard>,
    ): Promise<number> {
      leaks.push(tally);
      let masked = 0;
      for (const attempt of attempts) {
        const heard = await run(attempt);
        masked += Number(heard.bytes.includes(SHOWN));
        tally.add(attempt.name, heard, leaksIn(heard.bytes).length > 0);
      }
      return masked;
    }

    /** Judged by the superuser, not by the answers. */
    async function tryToDestroy(
      tally: Tally,
      server: TestPostgres,
      run: (attempt: Attempt) => Promise<Heard>,
    ): Promise<void> {
      destroyed.push(tally);
      const canary = join(tmpdir(), `writ-canary-${server.port}`);
      const { user, password } = server;
      await using victim = await connectAs(server, { user, password });
      await victim.query("set application_name = 'victim'");
      let untouched = await shopState(server);
      for (const attempt of destructiveAttempts(canary, await oidOf(server, 'wipe'))) {
        const heard = await run(attempt);
        const isIntact = (await returnsTo(server, untouched)) && !existsSync(canary);
        tally.add(attempt.name, heard, !isIntact);
        if (isIntact) continue;
        await server.exec(RESTORE_ROWS_SQL);
        if (!(await returnsTo(server, untouched))) untouched = await shopState(server);
      }
      assert.equal((await victim.query('select 1 as one')).rows[0].one, 1);
    }

    describe('with no protection, by a superuser', () => {
      let unprotected: Unprotected;
      let server: TestPostgres;
      before(async function () {
        this.timeout(60_000);
        server = await startPostgres({ version, settings: SETTINGS });
        closers.defer(async () => server[Symbol.asyncDispose]());
        unprotected = await Unprotected.on(server, SQL);
      });

      const canary = () => join(tmpdir(), `writ-canary-${server.port}`);

      it('G20 leaks', async () => {
        const tally = new Tally('no gateway, a superuser');
        const attempts = leakAttempts(await unprotected.oidOf('query_to_xml'));
        await tryLeaks(tally, attempts, (attempt) => unprotected.answers(attempt));
        assert.ok(attempts.length >= LEAK_ATTEMPTS);
        assert.ok(tally.broken.length >= UNPROTECTED_LEAKS, `${tally.broken.length} leaked`);
      }).timeout(120_000);

      it('G28 executes every destructive statement that can have an effect', async () => {
        const tally = new Tally('no gateway, a superuser');
        destroyed.push(tally);
        const attempts = destructiveAttempts(canary(), await unprotected.oidOf('wipe'));
        let victim: pg.Client | undefined;
        for (const attempt of attempts) {
          victim ??= await connectVictim(server);
          const { heard, changed } = await unprotected.run(attempt, canary());
          tally.add(attempt.name, heard, changed);
          if (changed) {
            await victim.end().catch(() => undefined);
            victim = undefined;
          }
        }
        await victim?.end();
        const idle = attempts
          .map(({ name }) => name)
          .filter((name) => !tally.broken.includes(name));
        assert.deepEqual(idle.sort(), [...WITHOUT_EFFECT].sort());
        assert.ok(tally.broken.length >= DESTRUCTIVE_ATTEMPTS);
      }).timeout(240_000);
    });

    describe('by the wire layer alone', () => {
      async function startEnforced(grant: Grant): Promise<GatewayEnforced> {
        const world = await GatewayEnforced.start({ version, sql: SQL, grant });
        closers.defer(async () => world[Symbol.asyncDispose]());
        return world;
      }
      const runIn = async (world: GatewayEnforced, attempt: Attempt) => {
        using client = await WireClient.secure(world.wire.port, world.wire.tls);
        return await runAttempt(client, attempt);
      };

      it('G21 G22 leaks nothing that is known', async () => {
        const world = await startEnforced(READER);
        const tally = new Tally('the wire layer alone');
        const attempts = leakAttempts(await oidOf(world.server, 'query_to_xml'));
        const masked = await tryLeaks(tally, attempts, (attempt) => runIn(world, attempt));
        assert.deepEqual(tally.broken, []);
        assert.ok(masked > MASKED_ANSWERS.wire, `the masked form was seen by ${masked} attempts`);
      }).timeout(120_000);

      it('G28 executes no more than it is known to', async () => {
        const world = await startEnforced(CLERK);
        const tally = new Tally('the wire layer alone');
        await tryToDestroy(tally, world.server, (attempt) => runIn(world, attempt));
        const unknown = tally.broken.filter((name) => !KNOWN_ON_THE_WIRE.includes(name));
        assert.deepEqual(unknown, []);
      }).timeout(240_000);
    });

    for (const [layoutName, layout] of Object.entries(LAYOUTS)) {
      describe(`by masked views and the database's rights, layout ${layoutName},`, () => {
        let server: TestPostgres;
        let gateway: ShopGateway;
        before(async function () {
          this.timeout(60_000);
          server = await startPostgres({ version, settings: SETTINGS });
          closers.defer(async () => server[Symbol.asyncDispose]());
          await server.exec(SQL);
          gateway = await startShopGateway(server, GRANTS, { layout });
          closers.defer(async () => gateway[Symbol.asyncDispose]());
        });
        const runAs = async (grant: Grant, attempt: Attempt) => {
          using client = await gateway.dial(grant);
          return await runAttempt(client, attempt);
        };

        for (const [rules, reader, clerk] of [
          ['rules off', UNRULED_READER, UNRULED_CLERK],
          ['with statement rules', READER, CLERK],
        ] as const) {
          it(`G20 leaks nothing, ${rules}`, async () => {
            const tally = new Tally(`views in ${layoutName}, ${rules}`);
            const attempts = leakAttempts(await oidOf(server, 'query_to_xml'));
            const masked = await tryLeaks(tally, attempts, (attempt) => runAs(reader, attempt));
            assert.deepEqual(tally.broken, []);
            assert.ok(
              masked > MASKED_ANSWERS.views,
              `the masked form was seen by ${masked} attempts`,
            );
          }).timeout(120_000);

          it(`G28 executes no destructive statement, ${rules}`, async () => {
            const tally = new Tally(`views in ${layoutName}, ${rules}`);
            await tryToDestroy(tally, server, (attempt) => runAs(clerk, attempt));
            assert.deepEqual(tally.broken, []);
          }).timeout(240_000);
        }

        it('G26 tells by counts no more than a mask shows', async () => {
          const table = layout === Layout.FRONT ? 'customers' : 'public.customers';
          const asked = { column: 'ssn', length: SECRETS.ssn.length };
          await using client = await gateway.connect(READER);
          assert.equal(await infer(client, { ...asked, table }), `???????${SECRETS.ssn.slice(-4)}`);
          const base = layout === Layout.FRONT ? table : 'writ_base_public.customers';
          const { user, password } = server;
          await using owner = await connectAs(server, { user, password });
          assert.equal(
            await infer(owner, { ...asked, table: base }),
            SECRETS.ssn,
            'without a mask',
          );
        }).timeout(60_000);
      });
    }
  });
}

/** A session of somebody else, to be ended. */
async function connectVictim({ superuserUrl }: TestPostgres): Promise<pg.Client> {
  const victim = new pg.Client({ connectionString: superuserUrl, application_name: 'victim' });
  victim.on('error', () => undefined);
  await victim.connect();
  return victim;
}

async function oidOf(server: TestPostgres, name: string): Promise<number> {
  const [row] = await server.exec(`select oid::int from pg_proc where proname = '${name}'`);
  return Number(row?.oid);
}
