import assert from 'node:assert/strict';
import { AccessWorld, BACKEND, documents, grantYaml } from '../../test/fixtures/access-world.ts';
import type { Datastore, Transaction } from '../plugins/datastore/datastore.ts';
import { GrantIndex } from './grant-index.ts';

const HOLDER = 'spiffe://example.org/reporting';

describe('GrantIndex', () => {
  let world: AccessWorld;
  let store: Datastore;
  let index: GrantIndex;
  beforeEach(async () => {
    world = await AccessWorld.create();
    store = world.store;
    await world.addWorkload('reporting');
    index = new GrantIndex();
  });

  const names = (tx: Transaction) =>
    index.heldBy(tx, HOLDER).then((grants) => grants.map(({ name }) => name));
  const held = () => store.transaction(names);

  it('gives the grants of the identity as they stand now', async () => {
    assert.deepEqual(await held(), []);
    await world.apply(documents(BACKEND, grantYaml('reads', {})));
    assert.deepEqual(await held(), ['reads']);
    await world.apply(documents(BACKEND, grantYaml('reads', {}), grantYaml('writes', {})));
    assert.deepEqual(await held(), ['reads', 'writes']);
    assert.deepEqual(await store.transaction((tx) => index.heldBy(tx, `${HOLDER}-2`)), []);
  });

  it('reads them once for one revision', async () => {
    await world.apply(documents(BACKEND, grantYaml('reads', {})));
    assert.deepEqual(await held(), ['reads']);
    const queries = await store.transaction(async (tx) => {
      let count = 0;
      const counting: Transaction = Object.assign(Object.create(tx) as Transaction, {
        all: (sql: string, ...parameters: never[]) => {
          count += 1;
          return tx.all(sql, ...parameters);
        },
        get: tx.get.bind(tx),
      });
      await names(counting);
      return count;
    });
    assert.equal(queries, 0);
  });

  it('forgets what was rolled back, though its revision is given again', async () => {
    await world.apply(documents(BACKEND, grantYaml('reads', {})));
    const rolledBack = store.transaction(async (tx) => {
      await tx.run(`delete from resources where kind = 'Grant'`);
      await tx.run(`update meta set value = '900' where key = 'resource_revision'`);
      assert.deepEqual(await names(tx), []);
      throw new Error('rolled back');
    });
    await assert.rejects(rolledBack, /rolled back/);
    await store.transaction((tx) =>
      tx.run(`update meta set value = '900' where key = 'resource_revision'`),
    );
    assert.deepEqual(await held(), ['reads']);
  });
});
