import assert from 'node:assert/strict';
import { SortedIds } from './sorted-ids.ts';

describe('SortedIds', () => {
  it('keeps each once and in order, whatever the order they come and go in', () => {
    const ids = new SortedIds();
    const numbers = Array.from({ length: 10_000 }, (_, at) => (at * 7919) % 10_000);
    const nameOf = (number: number) => String(number).padStart(5, '0');
    for (const number of [...numbers, ...numbers.slice(0, 500)]) ids.add(nameOf(number));
    assert.deepEqual([...ids.after('')], numbers.map(nameOf).sort());
    for (const number of numbers) if (number % 3 !== 0) ids.delete(nameOf(number));
    const left = numbers.filter((number) => number % 3 === 0).map(nameOf);
    assert.deepEqual([...ids.after('')], left.sort());
    assert.deepEqual([...ids.after('09990')], ['09993', '09996', '09999']);
    assert.deepEqual([...ids.after('09991')], ['09993', '09996', '09999']);
    assert.deepEqual([...ids.after('1')], []);
  });

  it('is empty once all are gone, and takes new ones', () => {
    const ids = new SortedIds();
    for (let at = 0; at < 3000; at += 1) ids.add(`${at}`);
    for (let at = 0; at < 3000; at += 1) ids.delete(`${at}`);
    ids.delete('none');
    assert.deepEqual([...ids.after('')], []);
    ids.add('a');
    assert.deepEqual([...ids.after('')], ['a']);
  });
});
