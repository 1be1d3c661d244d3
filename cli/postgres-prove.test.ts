import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import { Layout, ResourceSchema } from '../proto/gen/writ/resource/v1/resource_pb.ts';
import { onEachPostgres } from '../test/fixtures/each-postgres.ts';
import {
  rolesThatCanLogIn,
  SECRETS,
  SHOP,
  SHOP_READER,
  SHOP_SQL,
  SHOP_WRITER,
  setUpShop,
  shopBackend,
  shopClasses,
  shopColumns,
} from '../test/fixtures/shop-database.ts';
import { answerOf } from './postgres-answer.ts';
import { withPostgres } from './postgres-catalog.ts';
import { declaredBackend } from './postgres-check-subject.ts';
import { attemptsOn } from './postgres-leak-attempts.ts';
import { Needles } from './postgres-needles.ts';
import { driftOf, leaksIn, proveGrant } from './postgres-prove.ts';

const NUMBER = '4111111111111111';

onEachPostgres('answerOf', (server) => {
  it('hears all that the server says: rows in both forms, COPY, errors and notices', async () => {
    await withPostgres({ connectionString: server().superuserUrl }, async (client) => {
      const sent = await client.query(`select numeric_send(${NUMBER}) as bytes`);
      const needles = new Needles([{ text: NUMBER, binary: sent.rows[0].bytes }], new Set());
      const hears = async (sql: string, binary = false) => {
        const { code, said } = await answerOf(client, { sql, binary });
        return [needles.isIn(said), code];
      };
      const value = `${NUMBER}::numeric`;
      assert.deepEqual(await hears(`select ${value} as n`), [true, undefined]);
      assert.deepEqual(await hears(`select ${value} as n`, true), [true, undefined]);
      assert.deepEqual(await hears(`select row(array[${value}]) as n`, true), [true, undefined]);
      assert.deepEqual(await hears(`copy (select ${value}) to stdout`), [true, undefined]);
      const copy = `copy (select ${value}) to stdout (format binary)`;
      assert.deepEqual(await hears(copy), [true, undefined]);
      assert.deepEqual(await hears(`select ('x' || ${value})::int`), [true, '22P02']);
      const notice = `do $$ begin raise notice '%', ${value}; end $$`;
      assert.deepEqual(await hears(notice), [true, undefined]);
      assert.deepEqual(await hears('select 1'), [false, undefined]);
    });
  });
});

describe('attemptsOn', () => {
  it('quotes every name', () => {
    const target = { schema: 'a"b', table: "t'x", column: 'c', base: '"a""b"."t\'x"' };
    for (const { sql } of attemptsOn(target)) assert.ok(!sql.includes('a"b"'), sql);
    assert.ok(attemptsOn({ ...target, schema: 'a', table: 't', base: 'a.t' }).length >= 20);
  });
});

onEachPostgres('proveGrant', (server) => {
  const grants = [SHOP_READER, SHOP_WRITER];
  before(() => server().exec(SHOP_SQL));

  const prove = async (at: number, layout: Layout) => {
    const declared = declaredBackend(SHOP, [
      create(ResourceSchema, {
        body: { case: 'backend', value: shopBackend(server(), { layout }) },
      }),
      ...grants.map((value) => create(ResourceSchema, { body: { case: 'grant', value } })),
      ...shopClasses.map((value) =>
        create(ResourceSchema, { body: { case: 'columnClass', value } }),
      ),
      ...shopColumns.map((value) => create(ResourceSchema, { body: { case: 'columns', value } })),
    ]);
    const grant = declared.grants[at] ?? assert.fail();
    return proveGrant(server().superuserUrl, declared, grant);
  };

  for (const layout of [Layout.FRONT, Layout.IN_PLACE]) {
    it(`G13 shows that no path reads a classified column, in layout ${layout === Layout.FRONT ? 'front' : 'in-place'}`, async () => {
      await setUpShop(server(), grants, { layout });
      for (const at of [0, 1]) {
        const proof = await prove(at, layout);
        assert.equal(
          leaksIn([proof]),
          0,
          JSON.stringify(proof.attempts.filter(({ verdict }) => verdict === 'leak')) +
            proof.catalog,
        );
        assert.ok(proof.attempts.length >= 20 * 7);
        assert.ok(!proof.attempts.some(({ code }) => code === '42601'));
        assert.ok(proof.attempts.some(({ verdict }) => verdict === 'masked'));
        assert.ok(proof.compared.includes('public.customers.ssn'));
        const told = JSON.stringify(proof);
        for (const secret of Object.values(SECRETS)) assert.ok(!told.includes(secret));
      }
      assert.deepEqual(await rolesThatCanLogIn(server()), []);
      assert.deepEqual(await server().exec('select * from writ.session'), []);
    });
  }

  it('P9 tells what is not as the last setup made it', async () => {
    await setUpShop(server(), grants);
    assert.deepEqual(await driftOf(server().superuserUrl), []);
    await server().exec('alter table public.customers add column passport text');
    assert.deepEqual(await driftOf(server().superuserUrl), [
      'new-column public.customers.passport',
    ]);
    await server().exec('alter table public.customers drop column passport');
  });

  it('G13 finds the leak where somebody opened a way around the mask', async () => {
    await setUpShop(server(), grants);
    await server().exec('grant select (ssn) on public.customers to public');
    const proof = await prove(0, Layout.FRONT);
    assert.ok(proof.catalog.some((problem) => /customers\.ssn/.test(problem)));
    const leaks = proof.attempts.filter(({ verdict }) => verdict === 'leak');
    assert.ok(leaks.some(({ column, attempt }) => attempt === 'base table' && /ssn/.test(column)));
    await server().exec('revoke select (ssn) on public.customers from public');
  });
});
