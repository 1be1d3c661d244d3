import assert from 'node:assert/strict';
import { Backoff } from './backoff.ts';

describe('Backoff', () => {
  const RANGE = { firstMs: 100, maximumMs: 1000 };

  it('doubles the span up to the maximum', () => {
    const backoff = new Backoff(RANGE, () => 0.999999);
    const waits = Array.from({ length: 6 }, () => backoff.next());
    assert.deepEqual(waits, [100, 200, 400, 800, 1000, 1000]);
  });

  it('takes any part of the span, never nothing', () => {
    assert.equal(new Backoff(RANGE, () => 0).next(), 1);
    const waits = Array.from({ length: 500 }, () => new Backoff(RANGE).next());
    assert.ok(waits.every((wait) => wait >= 1 && wait <= 100));
    assert.ok(new Set(waits).size > 50);
  });

  it('begins again after a success', () => {
    const backoff = new Backoff(RANGE, () => 0.999999);
    backoff.next();
    backoff.next();
    backoff.reset();
    assert.equal(backoff.next(), 100);
  });
});
