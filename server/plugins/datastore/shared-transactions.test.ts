import assert from 'node:assert/strict';
import { Fault } from '../../../runtime/fault.ts';
import { onEachStore } from '../../../test/fixtures/each-store.ts';
import type { Datastore, Transaction } from './datastore.ts';
import { SharedTransactions } from './shared-transactions.ts';

onEachStore('SharedTransactions', (fresh) => {
  let store: Datastore;
  let shared: SharedTransactions;
  /** Which transactions there were, by how many works each had. */
  let seen: Map<Transaction, number>;
  beforeEach(async () => {
    store = await fresh().open();
    shared = SharedTransactions.of(store);
    seen = new Map();
  });
  afterEach(() => store[Symbol.asyncDispose]());

  const put = (key: string, refuse = false) =>
    shared.run(async (tx) => {
      seen.set(tx, (seen.get(tx) ?? 0) + 1);
      await tx.run('insert into meta (key, value) values (?, ?)', key, key);
      if (refuse) throw new Fault('FAILED_PRECONDITION', `not ${key}`);
      return key;
    });
  const kept = async () =>
    (await store.all(`select key from meta where key like 'k%' order by key`)).map(
      ({ key }) => key,
    );

  it('commits what comes meanwhile together, each with its own result', async () => {
    const keys = Array.from({ length: 20 }, (_, n) => `k${n}`);
    assert.deepEqual(await Promise.all(keys.map((key) => put(key))), keys);
    assert.deepEqual(await kept(), keys.sort());
    assert.ok(seen.size < keys.length, `${seen.size} transactions`);
    assert.equal(await put('k-later'), 'k-later');
  });

  it('is one for each store', () => {
    assert.equal(SharedTransactions.of(store), shared);
  });

  it('begins each work after those that were asked for before, and has committed what it answers', async () => {
    const begun: number[] = [];
    const works = Array.from({ length: 50 }, async (_, n) => {
      const key = await shared.run(async (tx) => {
        begun.push(n);
        await tx.run('insert into meta (key, value) values (?, ?)', `k${n}`, '');
        return `k${n}`;
      });
      assert.ok((await store.get('select 1 as n from meta where key = ?', key)) !== undefined);
    });
    await Promise.all(works);
    assert.deepEqual(
      begun,
      works.map((_, n) => n),
    );
  });

  it('keeps all but what fails, which hears of its own fault', async () => {
    const works = ['k1', 'k2', 'k3', 'k4'].map((key) => put(key, key === 'k3'));
    const outcomes = await Promise.allSettled(works);
    assert.deepEqual(
      outcomes.map(({ status }) => status),
      ['fulfilled', 'fulfilled', 'rejected', 'fulfilled'],
    );
    await assert.rejects(works[2] ?? assert.fail(), { code: 'FAILED_PRECONDITION' });
    assert.deepEqual(await kept(), ['k1', 'k2', 'k4']);
  });

  it('goes on beside one that says no before it has written', async () => {
    let runs = 0;
    const works = ['k1', 'no', 'k2', 'k3'].map((key) =>
      shared.run(async (tx) => {
        runs += 1;
        seen.set(tx, (seen.get(tx) ?? 0) + 1);
        await tx.get('select 1 from meta where key = ?', key);
        if (key === 'no') throw new Fault('PERMISSION_DENIED', 'no');
        await tx.run('insert into meta (key, value) values (?, ?)', key, key);
        return key;
      }),
    );
    const outcomes = await Promise.allSettled(works);
    const values = outcomes.map((one) => (one.status === 'fulfilled' ? one.value : 'refused'));
    assert.deepEqual(values, ['k1', 'refused', 'k2', 'k3']);
    assert.deepEqual([runs, seen.size], [4, 1]);
    assert.deepEqual(await kept(), ['k1', 'k2', 'k3']);
  });

  it('gives nobody a result if the commit fails', async () => {
    const failing: Pick<Datastore, 'transaction'> = {
      transaction: (work) =>
        store.transaction(async (tx) => {
          await work(tx);
          throw new Fault('STORE_UNAVAILABLE', 'the disk is full');
        }),
    };
    const others = new SharedTransactions(failing);
    const works = ['k1', 'k2'].map((key) =>
      others.run((tx) => tx.run('insert into meta (key, value) values (?, ?)', key, key)),
    );
    for (const outcome of await Promise.allSettled(works)) assert.equal(outcome.status, 'rejected');
    assert.deepEqual(await kept(), []);
  });

  it('tells all of a store that is closed', async () => {
    await store[Symbol.asyncDispose]();
    for (const outcome of await Promise.allSettled([put('k1'), put('k2')])) {
      assert.equal(outcome.status, 'rejected');
      assert.equal(outcome.status === 'rejected' && outcome.reason.code, 'STORE_UNAVAILABLE');
    }
  });
});
