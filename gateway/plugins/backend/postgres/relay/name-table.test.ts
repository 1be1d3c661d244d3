import assert from 'node:assert/strict';
import { NameTable } from './name-table.ts';

describe('NameTable', () => {
  it('answers with what is under way, then with what is certain', () => {
    const table = new NameTable<string>();
    const first = table.begin('s', 'old', 0);
    table.done(first);
    const second = table.begin('s', 'new', 1);
    assert.equal(table.lookup('s', 1), 'new');
    assert.equal(table.failed(second), true);
    assert.equal(table.lookup('s', 1), 'old');
  });

  it('keeps the order of changes to one name that are under way together', () => {
    const table = new NameTable<string>();
    const made = table.begin('s', 'a', 0);
    const closed = table.begin('s', undefined, 0);
    const again = table.begin('s', 'b', 0);
    table.done(made);
    assert.equal(table.lookup('s', 0), 'b');
    table.done(closed);
    table.done(again);
    assert.equal(table.lookup('s', 0), 'b');
  });

  it('tells that a later batch relied on a change that failed', () => {
    const table = new NameTable<string>();
    const change = table.begin('s', 'a', 0);
    assert.equal(table.lookup('s', 1), 'a');
    assert.equal(table.failed(change), false);
  });

  it('takes a failure for harmless within its own batch, which is skipped as a whole', () => {
    const table = new NameTable<string>();
    const change = table.begin('s', 'a', 0);
    assert.equal(table.lookup('s', 0), 'a');
    assert.equal(table.failed(change), true);
    assert.equal(table.lookup('s', 1), undefined);
  });

  it('knows nothing that was given before it was told to distrust, not even what is under way', () => {
    const table = new NameTable<string>();
    table.done(table.begin('a', 'x', 0));
    const change = table.begin('b', 'y', 0);
    table.distrust();
    table.done(change);
    assert.equal(table.lookup('a', 0), undefined);
    assert.equal(table.lookup('b', 0), undefined);
    table.done(table.begin('a', 'z', 0));
    assert.equal(table.lookup('a', 0), 'z');
  });
});
