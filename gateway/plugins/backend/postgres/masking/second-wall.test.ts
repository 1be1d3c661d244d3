import assert from 'node:assert/strict';
import type pg from 'pg';
import { FindingKind } from '../../../../../proto/gen/writ/gateway/v1/recording_pb.ts';
import { Layout } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { onEachPostgres } from '../../../../../test/fixtures/each-postgres.ts';
import { until } from '../../../../../test/fixtures/running-server.ts';
import {
  groupRoleOf,
  SECRETS,
  SHOP_READER,
  SHOP_SQL,
} from '../../../../../test/fixtures/shop-database.ts';
import { type ShopGateway, startShopGateway } from '../../../../../test/fixtures/shop-gateway.ts';
import { errorOf } from '../../../../../test/fixtures/wire-client.ts';
import { parseMessage, startupMessage } from '../wire/frontend-messages.ts';
import { cstring, int16, int32, message } from '../wire/message-body.ts';

const ENDED = { code: '57P01', message: /lets a classified column through unmasked/ };

for (const [name, layout, base] of [
  ['front', Layout.FRONT, 'public'],
  ['in-place', Layout.IN_PLACE, 'writ_base_public'],
] as const) {
  onEachPostgres(`the second wall, layout ${name},`, (server) => {
    let gateway: ShopGateway;
    const group = groupRoleOf(SHOP_READER);
    const connect = () => gateway.connect(SHOP_READER);
    const isCut = async (sql: string) => {
      await using client = await connect();
      return await client.query(sql).then(
        () => false,
        ({ code }: pg.DatabaseError) => code === ENDED.code,
      );
    };

    before(async () => {
      await server().exec(`${SHOP_SQL}
        create table public.vip (level int) inherits (public.customers);
        insert into public.vip (name, ssn) values ('Vip', '${SECRETS.ssn}')`);
      gateway = await startShopGateway(server(), [SHOP_READER], { layout });
      // The wall in the database is broken by somebody's hand.
      await server().exec(`grant usage on schema ${base} to ${group};
        grant select on ${base}.customers, public.vip, public.vault to ${group}`);
      // The gateway reads the catalog now and then.
      await until(() => isCut('select ssn from public.vip'));
    });
    after(() => gateway?.[Symbol.asyncDispose]());

    const found = () =>
      gateway.sessions
        .at(-1)
        ?.events.flatMap((event) => (event.case === 'finding' ? [event.value] : []));

    it('ends a session that is shown a classified column of a table itself', async () => {
      for (const sql of [
        `select ssn from ${base}.customers`,
        `select id, x.e as harmless from (select id, email as e from ${base}.customers) x`,
        `select * from ${base}.customers where id = 1`,
        `select c from ${base}.customers c`,
        'select card from public.vip',
        `select 1; select ssn from ${base}.customers`,
        `begin; declare c cursor for select ssn from ${base}.customers; fetch 1 from c`,
      ]) {
        await using client = await connect();
        await assert.rejects(client.query(sql), ENDED, sql);
        const finding = found();
        assert.equal(finding?.length, 1, sql);
        assert.equal(finding?.[0]?.kind, FindingKind.UNMASKED);
        assert.match(finding?.[0]?.name ?? '', /^public\.customers(\.(ssn|email|card))?$/);
      }
      await using client = await connect();
      const bound = { text: `select ssn from ${base}.customers where id = $1`, values: [1] };
      await assert.rejects(client.query({ ...bound, name: 'named' }), ENDED);
    });

    it('asks what a statement shows if its client does not', async () => {
      using client = await gateway.dial(SHOP_READER);
      client.send(
        startupMessage([
          ['user', 'x'],
          ['database', 'shop'],
        ]),
      );
      await client.until('Z');
      client.send(
        parseMessage(`select ssn from ${base}.customers`, 's'),
        message('B', cstring(''), cstring('s'), int16(0), int16(0), int16(0)),
        message('E', cstring(''), int32(0)),
        message('S'),
      );
      const messages = await client.rest();
      assert.equal(errorOf(messages)?.sqlstate, ENDED.code);
      const bytes = Buffer.concat(messages.map(({ body }) => body)).toString('latin1');
      assert.ok(!bytes.includes(SECRETS.ssn) && !messages.some(({ type }) => type === 'D'));
    });

    it('lets all else pass, statement by statement', async () => {
      await using client = await connect();
      const view = layout === Layout.FRONT ? 'customers' : 'public.customers';
      const { rows } = await client.query(`select * from ${view} where id = 1`);
      assert.equal(rows[0].ssn, '*******8726');
      for (const sql of [
        `select c from ${view} c`,
        `select id, name from ${base}.customers`,
        'select secret from public.vault',
        'select o.id, (select count(*) from pg_class) from public.orders o',
      ]) {
        await client.query(sql);
        await client.query({ text: sql, values: [] });
      }
      assert.deepEqual(found(), []);
    });
  });
}
