import assert from 'node:assert/strict';
import { leaveOutRows } from './statement-rows.ts';
import { bytesOf } from './statement-tokens.ts';

const options = { keptBytes: 0, emptiesStrings: false };
const left = (sql: string) => leaveOutRows(bytesOf(sql), options).bytes;

describe('leaveOutRows', () => {
  it('leaves out rows that differ in values alone', () => {
    const sql = "insert into t (a, b) values (1, 'x'), (2, 'it''s; (drop)'),(3,'') returning a";
    const reduced = leaveOutRows(bytesOf(sql), options);
    assert.equal(reduced.bytes, "insert into t (a, b) values (1, 'x') returning a");
    assert.equal(reduced.rowsLeftOut, 2);
    assert.deepEqual(reduced.rowsKept, [1]);
  });

  it('keeps a row of every kind', () => {
    for (const sql of [
      "insert into t values (1, 'x'), (1, null), (1, default), (1, 2), ('x', 1), (1)",
      'insert into t values (1), (-1), (1.5), (f(1)), (g(1)), (1::int), (1::text)',
      'insert into t values (a), (b), ("a"), ("b"), ($1), ($2)',
      "insert into t values ('x'), (date 'x'), (e'x'), (b'1'), ($$x$$), (u&'x')",
      'insert into t values (1 < -1), (1 <- 1)',
    ]) {
      assert.equal(left(sql), sql);
    }
  });

  it('keeps what it cannot see through', () => {
    for (const row of [
      '((select a from t order by 2))',
      "(set_config('role', 'x', false))",
      `("set_config"('role', 'x', false))`,
      "('a'\n'b')",
      "(e'\\\\')",
      '($$x$$)',
      String.raw`(u&"set\005fconfig"('role', 'x', false))`,
    ]) {
      const sql = `insert into t values ${row}, ${row}`;
      assert.equal(left(sql), sql);
    }
  });

  it('takes each list by itself, and nothing else for one', () => {
    for (const sql of [
      'select f((1), (2)), (1, 2) = (3, 4), a in (1, 2), "values" (1), (2)',
      'insert into a values (1); insert into b values (1)',
      'select * from (values (1)) a, (values (1)) b',
      "select 'values (1), (2)' -- values (1), (2)",
    ]) {
      assert.equal(left(sql), sql);
    }
    assert.equal(
      left('select * from (values (1), (2)) a, (values (3),(4)) b'),
      'select * from (values (1)) a, (values (3)) b',
    );
  });

  it('keeps rows that begin early, and says what the rest weighs', () => {
    const rows = Array.from({ length: 5000 }, (_, n) => `(${n}, '${'x'.repeat(n % 300)}')`);
    const sql = `insert into t values ${rows.join(',')}`;
    const reduced = leaveOutRows(bytesOf(sql), { ...options, keptBytes: 10_000 });
    const [kept = 0] = reduced.rowsKept;
    assert.equal(kept + reduced.rowsLeftOut, 5000);
    assert.ok(reduced.bytes.length > 10_000 && reduced.bytes.length < 10_600);
    assert.ok(sql.startsWith(reduced.bytes));
    assert.ok(reduced.weight > 5000 && reduced.weight < 15_000);
  });

  it('hardly counts long values, and empties them if it is told to', () => {
    const sql = `insert into t values ('${'é'.repeat(100_000)}', 1, '${'x'.repeat(1000)}')`;
    const { bytes, weight } = leaveOutRows(bytesOf(sql), options);
    assert.equal(bytes, bytesOf(sql));
    assert.ok(weight < 1000);
    const emptied = leaveOutRows(bytesOf(`${sql.slice(0, -1)}), ('a', 1, 'b')`), {
      ...options,
      emptiesStrings: true,
    });
    assert.equal(emptied.bytes, "insert into t values ('', 1, '')");
  });

  it('refuses what is no SQL', () => {
    assert.throws(() => left("insert into t values (1), ('"));
  });
});
