import assert from 'node:assert/strict';
import {
  POSTGRES_VERSIONS,
  postgresTitle,
  requirePostgres,
  startPostgres,
  type TestPostgres,
} from '../../../../test/fixtures/postgres.ts';
import { SHOP_SQL, shopGrant } from '../../../../test/fixtures/shop-database.ts';
import { type ShopGateway, startShopGateway } from '../../../../test/fixtures/shop-gateway.ts';

const READER = shopGrant('reader');
const ADMIN = shopGrant('admin', { select: ['public.orders'], statements: ['any'] });

for (const version of POSTGRES_VERSIONS) {
  describe(`settings of sessions before ${postgresTitle(version)}`, function () {
    this.timeout(60_000);
    let server: TestPostgres;
    let gateway: ShopGateway;

    before(async function () {
      requirePostgres(this, version);
      server = await startPostgres({ version });
      await server.exec(SHOP_SQL);
      const settings = {
        settingsAllowed: ['app.locale', 'default_statistics_target'],
        settingCeilings: { statement_timeout: 30_000n, lock_timeout: 5000n, work_mem: 65_536n },
      };
      gateway = await startShopGateway(server, [READER, ADMIN], { settings });
    });
    after(async () => {
      await gateway?.[Symbol.asyncDispose]();
      await server?.[Symbol.asyncDispose]();
    });

    const refused = { code: '42501' };
    const shown = async (client: Awaited<ReturnType<ShopGateway['connect']>>, name: string) =>
      (await client.query(`select current_setting('${name}') as value`)).rows[0].value;

    it('P11 starts a session at its ceilings, and lets its client lower them alone', async () => {
      await using session = await gateway.connect(READER);
      assert.equal(await shown(session, 'statement_timeout'), '30s');
      await session.query("set statement_timeout = '10s'");
      await session.query("select set_config('lock_timeout', '1s', false)");
      await session.query("set work_mem = '32MB'");
      for (const sql of [
        'set statement_timeout = 0',
        "set local statement_timeout = '31s'",
        "select set_config('statement_timeout', '0', false)",
        "set work_mem = '65MB'",
        "update pg_settings set setting = '0' where name = 'statement_timeout'",
      ]) {
        await assert.rejects(session.query(sql), refused, sql);
        await assert.rejects(session.query({ text: sql, values: [] }), refused, sql);
      }
      await assert.rejects(
        session.query("select set_config('statement_timeout', $1, false)", ['0']),
        { ...refused, message: 'refused by the gateway: setting-too-high' },
      );
      assert.equal(await shown(session, 'statement_timeout'), '10s');
      for (const sql of ['reset statement_timeout', 'reset all', 'discard all']) {
        await session.query("set statement_timeout = '10s'");
        await session.query(sql);
        assert.equal(await shown(session, 'statement_timeout'), '30s', sql);
      }
    });

    it('P11 holds ceilings for what a client asks for as it connects', async () => {
      for (const options of [
        '-c statement_timeout=0',
        '--statement-timeout=31s',
        '-c work_mem=1GB',
        '-c app.tenant=7',
        '-c temp_file_limit=1',
        '-c role=none',
      ]) {
        await assert.rejects(gateway.connect(READER, { options }), refused, options);
      }
      await assert.rejects(gateway.connect(READER, { statement_timeout: 40_000 }), {
        ...refused,
        message: /"statement_timeout" cannot be set through the gateway: setting-too-high/,
      });
      const options = '-c statement_timeout=5s -c app.locale=de -c enable_seqscan=off';
      await using session = await gateway.connect(READER, { options });
      assert.equal(await shown(session, 'statement_timeout'), '5s');
      assert.equal(await shown(session, 'app.locale'), 'de');
      await session.query('reset statement_timeout');
      assert.equal(await shown(session, 'statement_timeout'), '5s');
      await session.query("set statement_timeout = '30s'");
    });

    it('P11 lets sessions change what the backend allows, and no more', async () => {
      await using session = await gateway.connect(READER);
      await session.query("set app.locale = 'fr'");
      await session.query('set default_statistics_target = 500');
      assert.equal(await shown(session, 'app.locale'), 'fr');
      await assert.rejects(session.query("set app.tenant = '7'"), {
        ...refused,
        message: 'refused by the gateway: setting-not-allowed',
      });
      assert.equal((await session.query('select 1 as one')).rows[0].one, 1);
    });

    it('leaves a grant of all classes to what its role may set', async () => {
      await using session = await gateway.connect(ADMIN, { options: '-c statement_timeout=0' });
      assert.equal(await shown(session, 'statement_timeout'), '0');
      await session.query("set work_mem = '65MB'");
      await assert.rejects(session.query('set standard_conforming_strings = off'), refused);
    });
  });
}
