import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setImmediate as turn } from 'node:timers/promises';
import Database from 'libsql';
import { openSqlite } from './sqlite.ts';

const PUT = 'insert into meta (key, value) values (?, ?)';
const COUNT = 'select count(*) as n from meta';

describe('openSqlite', () => {
  let directory: string;
  let file: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'writ-sqlite-'));
    file = join(directory, 'server.db');
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  for (const kind of ['a file', ':memory:']) {
    const open = () => openSqlite(kind === 'a file' ? file : kind);

    it(`serialises transactions whose work waits (${kind})`, async () => {
      await using store = await open();
      await store.transaction((tx) => tx.run(PUT, 'n', '0'));
      const add = () =>
        store.transaction(async (tx) => {
          const row = await tx.get('select value from meta where key = ?', 'n');
          await turn();
          await tx.run('update meta set value = ? where key = ?', `${Number(row?.value) + 1}`, 'n');
        });
      await Promise.all(Array.from({ length: 20 }, add));
      assert.deepEqual(await store.get('select value from meta'), { value: '20' });
    });

    it(`shows readers committed state alone (${kind})`, async () => {
      await using store = await open();
      let during: Promise<unknown> | undefined;
      await store.transaction(async (tx) => {
        await tx.run(PUT, 'a', '1');
        const row = store.get(COUNT);
        during = row;
        await turn();
        if (kind === 'a file') assert.deepEqual(await row, { n: 0 });
      });
      assert.deepEqual(await during, { n: kind === 'a file' ? 0 : 1 });
      assert.deepEqual(await store.get(COUNT), { n: 1 });
    });

    it(`leaves nothing of a transaction that throws, and runs none of its callbacks (${kind})`, async () => {
      await using store = await open();
      const called: string[] = [];
      const broken = store.transaction(async (tx) => {
        tx.afterCommit(() => called.push('broken'));
        await tx.run(PUT, 'a', '1');
        throw new Error('no');
      });
      await assert.rejects(broken, { message: 'no' });
      await store.transaction(async (tx) => tx.afterCommit(() => called.push('committed')));
      assert.deepEqual([called, await store.get(COUNT)], [['committed'], { n: 0 }]);
    });
  }

  it('keeps what was committed, in a file that only its owner reads', async () => {
    {
      await using store = await openSqlite(file);
      await store.transaction((tx) => tx.run(PUT, 'a', '1'));
      assert.equal(statSync(`${file}-wal`).mode & 0o777, 0o600);
    }
    await using store = await openSqlite(file);
    assert.deepEqual(await store.get(COUNT), { n: 1 });
    assert.equal(statSync(file).mode & 0o777, 0o600);
  });

  it('gives blobs, integers, text and null back as they went in', async () => {
    await using store = await openSqlite(':memory:');
    await store.transaction((tx) =>
      tx.run(
        'insert into join_tokens (sha256, handle, agent_id, expires_at_ms) values (?, ?, ?, ?)',
        Uint8Array.of(0, 255),
        'é',
        null,
        2 ** 52,
      ),
    );
    assert.deepEqual(
      await store.all('select * from join_tokens where sha256 = ?', Uint8Array.of(0, 255)),
      [{ sha256: Uint8Array.of(0, 255), handle: 'é', agent_id: null, expires_at_ms: 2 ** 52 }],
    );
  });

  it('refuses text with NUL, which would come back cut short', async () => {
    await using store = await openSqlite(':memory:');
    const put = store.transaction((tx) => tx.run(PUT, 'a\0b', '1'));
    await assert.rejects(put, { code: 'INVALID_ARGUMENT' });
  });

  it('refuses a store whose schema is newer than the program', async () => {
    await using _ = await openSqlite(file);
    const other = new Database(file);
    other.pragma('user_version = 1000');
    other.close();
    await assert.rejects(openSqlite(file), { code: 'STATE_UNUSABLE', message: /version 1000/ });
  });

  it('refuses a file that is no database', async () => {
    writeFileSync(file, 'x'.repeat(5000));
    await assert.rejects(openSqlite(file), { code: 'STATE_UNUSABLE' });
  });

  it('answers STORE_UNAVAILABLE once it is closed', async () => {
    const store = await openSqlite(file);
    await store[Symbol.asyncDispose]();
    await assert.rejects(
      store.transaction(async () => 1),
      { code: 'STORE_UNAVAILABLE' },
    );
    await assert.rejects(store.get(COUNT), { code: 'STORE_UNAVAILABLE' });
  });

  it('answers STORE_UNAVAILABLE while another process holds the write lock too long', async () => {
    await using store = await openSqlite(file);
    const other = new Database(file);
    other.exec('begin immediate');
    await assert.rejects(
      store.transaction(async () => 1),
      { code: 'STORE_UNAVAILABLE' },
    );
    other.exec('rollback');
    other.close();
    assert.equal(await store.transaction(async () => 1), 1);
  });

  it('lets the process go on while another holds the write lock, and all give up together', async () => {
    await using store = await openSqlite(file);
    const other = new Database(file);
    other.exec('begin immediate');
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    const started = performance.now();
    const waiting = Array.from({ length: 10 }, () => store.transaction(async () => 1));
    const outcomes = await Promise.allSettled(waiting);
    delay.disable();
    assert.ok(outcomes.every(({ status }) => status === 'rejected'));
    assert.ok(performance.now() - started < 3000);
    assert.ok(delay.max < 500e6, `blocked for ${delay.max / 1e6} ms`);
    const late = store.transaction((tx) => tx.run(PUT, 'a', '1'));
    setTimeout(() => other.exec('rollback'), 100);
    assert.equal(await late, 1);
    other.close();
  });
});
