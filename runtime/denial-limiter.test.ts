import assert from 'node:assert/strict';
import { FakeClock } from '../test/fakes/fake-clock.ts';
import { DenialLimiter } from './denial-limiter.ts';

describe('DenialLimiter', () => {
  it('lets one of a kind through each minute', async () => {
    const clock = new FakeClock();
    const limiter = new DenialLimiter(clock);
    assert.deepEqual([limiter.admit('a', 'b'), limiter.admit('a', 'b')], [true, false]);
    await clock.advance(59_950);
    assert.equal(limiter.admit('a', 'b'), false);
    await clock.advance(50);
    assert.equal(limiter.admit('a', 'b'), true);
  });

  it('tells kinds apart by each of their parts', () => {
    const limiter = new DenialLimiter(new FakeClock());
    const kinds = [['a', 'b'], ['a b'], ['ab'], ['a', 'c'], ['a', 'b', '']];
    assert.ok(kinds.every((kind) => limiter.admit(...kind)));
    assert.ok(!kinds.some((kind) => limiter.admit(...kind)));
  });

  it('remembers ten thousand kinds, and lets the oldest of more through again', () => {
    const limiter = new DenialLimiter(new FakeClock());
    for (let n = 0; n < 10_001; n += 1) assert.ok(limiter.admit(`${n}`));
    assert.deepEqual([limiter.admit('1'), limiter.admit('0')], [false, true]);
  });
});
