import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { onEachStore } from '../../../test/fixtures/each-store.ts';
import type { Datastore } from './datastore.ts';

const PUT = 'insert into meta (key, value) values (?, ?)';
const COUNT = 'select count(*) as n from meta';
const TOKENS = {
  table: 'join_tokens',
  columns: ['sha256', 'handle', 'agent_id', 'expires_at_ms'],
};

onEachStore('Datastore', (store) => {
  let open: Datastore;
  beforeEach(async () => {
    open = await store().open();
  });
  afterEach(() => open[Symbol.asyncDispose]());

  const put = (key: string, value = '') => open.transaction((tx) => tx.run(PUT, key, value));
  const count = async () => (await open.get(COUNT))?.n;

  it('serialises transactions whose work waits', async () => {
    await put('n', '0');
    const add = () =>
      open.transaction(async (tx) => {
        const row = await tx.get('select value from meta where key = ?', 'n');
        await turn();
        await tx.run('update meta set value = ? where key = ?', `${Number(row?.value) + 1}`, 'n');
      });
    await Promise.all(Array.from({ length: 20 }, add));
    assert.deepEqual(await open.get('select value from meta'), { value: '20' });
  });

  it('shows readers committed state alone', async () => {
    await open.transaction(async (tx) => {
      await tx.run(PUT, 'a', '1');
      assert.equal(await count(), 0);
      assert.deepEqual(await tx.get(COUNT), { n: 1 });
    });
    assert.equal(await count(), 1);
  });

  it('leaves nothing of a transaction that throws, and runs none of its callbacks', async () => {
    const called: string[] = [];
    const broken = open.transaction(async (tx) => {
      tx.afterCommit(() => called.push('broken'));
      await tx.run(PUT, 'a', '1');
      await tx.insertMany({ table: 'meta', columns: ['key', 'value'], rows: [['b', '']] });
      throw new Error('no');
    });
    await assert.rejects(broken, { message: 'no' });
    await open.transaction(async (tx) => tx.afterCommit(() => called.push('committed')));
    assert.deepEqual([called, await count()], [['committed'], 0]);
  });

  it('leaves nothing of a transaction with a statement of ours that fails', async () => {
    await put('a');
    const broken = open.transaction(async (tx) => {
      await tx.run(PUT, 'b', '');
      await tx.run(PUT, 'a', '');
    });
    await assert.rejects(broken, (error: Error) => !('code' in error) || error.name !== 'Fault');
    assert.equal(await count(), 1);
    await put('b');
  });

  it('runs callbacks in the order of commits', async () => {
    const seen: number[] = [];
    const one = (number: number) =>
      open.transaction(async (tx) => {
        if (number % 2 === 0) await turn();
        tx.afterCommit(() => seen.push(number));
      });
    await Promise.all([0, 1, 2, 3, 4].map(one));
    assert.deepEqual(seen, [0, 1, 2, 3, 4]);
  });

  it('lets nobody use a transaction after its end', async () => {
    const tx = await open.transaction(async (one) => one);
    await assert.rejects(async () => tx.get(COUNT), /after its end/);
  });

  it('tells how many rows were changed, and what a statement returns', async () => {
    await put('a', '1');
    await put('b', '1');
    await open.transaction(async (tx) => {
      assert.equal(await tx.run('update meta set value = ? where value = ?', '2', '1'), 2);
      const row = await tx.get('delete from meta where key = ? returning value', 'a');
      assert.deepEqual(row, { value: '2' });
    });
  });

  it('gives blobs, integers, text and null back as they went in, one by one and in bulk', async () => {
    const rows = [
      [Uint8Array.of(0, 255), 'é\\"{},\n', null, 2 ** 52],
      [new Uint8Array(), '', 'a', -1],
      [Uint8Array.of(1), "'; --", '', 0],
    ];
    await open.transaction(async (tx) => {
      const [first = []] = rows;
      const sql = `insert into join_tokens (${TOKENS.columns.join(', ')}) values (?, ?, ?, ?)`;
      await tx.run(sql, ...first);
      await tx.insertMany({ ...TOKENS, rows: rows.slice(1) });
    });
    const read = await open.all('select * from join_tokens');
    assert.deepEqual(
      read.map(({ sha256, handle, agent_id, expires_at_ms }) => [
        ...[sha256, handle, agent_id, expires_at_ms],
      ]),
      rows,
    );
    assert.deepEqual(
      await open.all('select handle from join_tokens where sha256 = ?', Uint8Array.of(0, 255)),
      [{ handle: 'é\\"{},\n' }],
    );
  });

  it('inserts many rows in order, with columns that are null or the same throughout', async () => {
    const rows = Array.from({ length: 1234 }, (_, n) => [
      ...[Uint8Array.of(n >> 8, n & 255), `h${n}`, null, 5],
    ]);
    await open.transaction((tx) => tx.insertMany({ ...TOKENS, rows }));
    assert.deepEqual(
      await open.get('select count(*) as n, sum(expires_at_ms) as s from join_tokens'),
      {
        ...{ n: 1234, s: 6170 },
      },
    );
    await open.transaction((tx) => tx.insertMany({ ...TOKENS, rows: [] }));
  });

  it('numbers rows that are inserted together in their order', async () => {
    const rows = Array.from({ length: 300 }, (_, n) => ['grant', `g${n}`, 'c', 'r', n]);
    const columns = ['subject_kind', 'subject', 'cause', 'reason', 'at_ms'];
    await open.transaction((tx) => tx.insertMany({ table: 'revocations', columns, rows }));
    const read = await open.all('select seq, at_ms from revocations order by seq');
    assert.deepEqual(
      read.map(({ seq, at_ms }) => Number(seq) - Number(at_ms)),
      rows.map(() => 1),
    );
  });

  it('finds the rows of many keys, each once', async () => {
    const rows = Array.from({ length: 700 }, (_, n) => [`k${n}`, `v${n}`]);
    await open.transaction((tx) =>
      tx.insertMany({ table: 'meta', columns: ['key', 'value'], rows }),
    );
    const init = { table: 'meta', columns: ['value'], by: ['key'] };
    const keys = [...rows.map(([key = '']) => [key]), ['none']];
    for (const found of [
      await open.findMany({ ...init, keys }),
      await open.transaction((tx) => tx.findMany({ ...init, keys })),
    ]) {
      assert.deepEqual(
        found.map(({ value }) => value).sort(),
        rows.map(([, value]) => value).sort(),
      );
    }
    assert.deepEqual(
      await open.findMany({
        ...init,
        by: ['key', 'value'],
        keys: [
          ['k1', 'v1'],
          ['k2', 'v1'],
        ],
      }),
      [{ value: 'v1' }],
    );
    assert.deepEqual(await open.findMany({ ...init, keys: [] }), []);
  });

  it('sorts text by its bytes', async () => {
    for (const key of ['a', 'B', '_', 'é', 'aa', '-']) await put(key);
    const rows = await open.all('select key from meta order by key');
    assert.deepEqual(
      rows.map(({ key }) => key),
      ['-', 'B', '_', 'a', 'aa', 'é'],
    );
  });

  it('refuses text with NUL, and the transaction goes on without it', async () => {
    await open.transaction(async (tx) => {
      await assert.rejects(tx.run(PUT, 'a\0b', '1'), { code: 'INVALID_ARGUMENT' });
      const rows = [['a\0b', '1']];
      const many = tx.insertMany({ table: 'meta', columns: ['key', 'value'], rows });
      await assert.rejects(many, { code: 'INVALID_ARGUMENT' });
      await tx.run(PUT, 'b', '1');
    });
    assert.equal(await count(), 1);
  });

  it('keeps what was committed', async () => {
    await put('a');
    await open[Symbol.asyncDispose]();
    open = await store().open();
    assert.equal(await count(), 1);
  });

  it('shows a snapshot as all was when it was taken', async () => {
    await put('a');
    await using snapshot = await open.snapshot();
    await put('b');
    assert.deepEqual([await snapshot.get(COUNT), await count()], [{ n: 1 }, 2]);
  });

  it('answers STORE_UNAVAILABLE once it is closed', async () => {
    await open[Symbol.asyncDispose]();
    await assert.rejects(put('a'), { code: 'STORE_UNAVAILABLE' });
    await assert.rejects(open.get(COUNT), { code: 'STORE_UNAVAILABLE' });
  });
});
