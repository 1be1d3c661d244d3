import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../../../test/fixtures/restarts.ts';
import { temporaryDir } from '../../../test/fixtures/running-server.ts';
import { openSqlite } from './sqlite.ts';

const MOVED_MS = 10_000;

describe('Checkpoints', () => {
  it('moves what was committed to the database while the store is open, and all stays there', async () => {
    using directory = temporaryDir();
    const file = join(directory.path, 'server.db');
    const rows = Array.from({ length: 2000 }, (_, n) => [`key ${n}`, 'x'.repeat(1000)]);
    {
      await using store = await openSqlite(file);
      const before = statSync(file).size;
      await store.transaction((tx) =>
        tx.insertMany({ table: 'meta', columns: ['key', 'value'], rows }),
      );
      const hasMoved = async () => statSync(file).size > before + 2_000_000;
      await until(hasMoved, MOVED_MS, 'the rows are in the database');
      await store.transaction((tx) => tx.run(`update meta set value = 'y' where key = 'key 7'`));
    }
    await using store = await openSqlite(file);
    const [row] = await store.all(`select count(*) as n, min(value) as least from meta`);
    assert.equal(row?.n, rows.length);
    assert.equal((await store.get(`select value from meta where key = 'key 7'`))?.value, 'y');
  });
});
