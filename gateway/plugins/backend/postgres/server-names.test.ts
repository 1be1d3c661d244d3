import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type pg from 'pg';
import type { Backend } from '../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { onEachPostgres } from '../../../../test/fixtures/each-postgres.ts';
import { skipWithout } from '../../../../test/fixtures/programs.ts';
import {
  callersGrant,
  type ReachGateway,
  reachBackend,
  setUpEach,
  startReachGateway,
  writePasswordFile,
} from '../../../../test/fixtures/reach-gateway.ts';
import { SHOP_SQL } from '../../../../test/fixtures/shop-database.ts';

const SHOP_NAME = 'shop.db.internal';
const ORDERS = callersGrant('reads-orders', { select: ['public.orders'] });
const INVOICES = callersGrant('reads-invoices', {
  select: ['public.invoices'],
  database: 'billing',
});
const LEGACY = callersGrant('reads-legacy', { select: ['public.invoices'] }, 'legacy');
const GRANTS = [ORDERS, INVOICES, LEGACY];
const run = promisify(execFile);

onEachPostgres('server names of backends', (server) => {
  let password: Awaited<ReturnType<typeof writePasswordFile>>;
  let gateway: ReachGateway;
  let backends: Backend[];
  before(async () => {
    password = await writePasswordFile();
    await server().exec('create database shop_db');
    await server().exec('create database billing_db');
    await server().exec(SHOP_SQL, 'shop_db');
    await server().exec('create table public.invoices as select 7 as id', 'billing_db');
    await server().exec('create database legacy_db template billing_db');
    const place = { host: server().host, port: server().port };
    const shop = reachBackend('shop', password.file, {
      ...place,
      database: 'shop_db',
      databases: { billing: 'billing_db' },
      serverNames: [SHOP_NAME],
    });
    const legacy = reachBackend('legacy', password.file, {
      ...place,
      database: 'legacy_db',
      serverNames: ['legacy.db.internal'],
    });
    backends = [shop, legacy];
    await setUpEach(server(), ['shop_db', 'billing_db'], shop, GRANTS);
    await setUpEach(server(), ['legacy_db'], legacy, GRANTS);
    gateway = await startReachGateway([SHOP_NAME, 'legacy.db.internal', 'other.internal']);
    gateway.know(backends, GRANTS);
  });
  after(async () => {
    await gateway?.[Symbol.asyncDispose]();
    await password?.[Symbol.asyncDispose]();
  });

  /** As clients connect that take the host for the name; the certificate is checked for it. */
  const by = (servername: string, database: string, config: pg.ClientConfig = {}) =>
    gateway.connect({
      host: '127.0.0.1',
      database,
      ssl: { ...gateway.wire.tls, servername },
      ...config,
    });
  const nameOf = async (client: pg.Client) =>
    (await client.query('select current_database() as name')).rows[0].name;

  it('G12: lead to a database by its name in the server', async () => {
    await using shop = await by(SHOP_NAME, 'shop_db');
    assert.equal(await nameOf(shop), 'shop_db');
    await using billing = await by(SHOP_NAME.toUpperCase(), 'billing_db');
    assert.equal(await nameOf(billing), 'billing_db');
    assert.equal(gateway.sessions.at(-1)?.session.grant.name, 'reads-invoices');
  });

  it('take the names that clients know too', async () => {
    await using shop = await by(SHOP_NAME, 'shop');
    assert.equal(await nameOf(shop), 'shop_db');
    await using billing = await by(SHOP_NAME, 'billing');
    assert.equal(await nameOf(billing), 'billing_db');
  });

  it('say nothing where no backend declares them', async () => {
    await using billing = await by('other.internal', 'billing');
    assert.equal(await nameOf(billing), 'billing_db');
    await assert.rejects(by('other.internal', 'billing_db'), {
      message: 'spiffe://example.org/reporting holds no grant on "billing_db"',
    });
  });

  it('G12: refuse a dbname of another backend, and say why to who holds a grant', async () => {
    await assert.rejects(by(SHOP_NAME, 'legacy'), {
      code: '28000',
      message:
        'server name "shop.db.internal" is that of backend shop, which has no database "legacy": you hold grants on billing, shop',
    });
    await assert.rejects(by('legacy.db.internal', 'shop_db'), { code: '28000', message: /legacy/ });
    gateway.know(backends, [LEGACY]);
    await assert.rejects(by(SHOP_NAME, 'legacy'), {
      code: '28000',
      message: 'spiffe://example.org/reporting holds no grant on "legacy"',
    });
    gateway.know(backends, GRANTS);
  });

  it('are what psql sends, and what its verify-full checks', async function () {
    const bin = server().clientBin;
    if (bin === undefined) return skipWithout(this, 'psql');
    const { ca, cert, key } = gateway.wire.files;
    const psql = (host: string, database: string) =>
      run(join(bin, 'psql'), [
        `host=${host} hostaddr=127.0.0.1 port=${gateway.wire.port} user=somebody dbname=${database}
         sslmode=verify-full sslrootcert=${ca} sslcert=${cert} sslkey=${key}`,
        '-Atc',
        'select id from invoices',
      ]);
    assert.equal((await psql(SHOP_NAME, 'billing_db')).stdout, '7\n');
    assert.equal((await psql('legacy.db.internal', 'legacy_db')).stdout, '7\n');
    assert.equal(gateway.sessions.at(-1)?.session.grant.name, 'reads-legacy');
    await assert.rejects(psql('absent.internal', 'shop'), { stderr: /absent\.internal/ });
  });
});
