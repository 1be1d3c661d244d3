import assert from 'node:assert/strict';
import { FakeClock } from '../../test/fakes/fake-clock.ts';
import { watchPrimary } from './watch-primary.ts';

describe('watchPrimary', () => {
  it('tells of a primary that has been silent for 15 s, and of no other', async () => {
    const clock = new FakeClock();
    const stop = new AbortController();
    const primary = { heard: 0 };
    let told = 0;
    const onSilence = () => {
      told += 1;
    };
    const watching = watchPrimary({ primary, clock, onSilence }, stop.signal);
    for (let second = 0; second < 60; second += 1) {
      primary.heard += second % 5 === 0 ? 1 : 0;
      await clock.advance(1000);
    }
    assert.equal(told, 0);
    primary.heard += 1;
    await clock.advance(15_000);
    assert.equal(told, 0);
    await clock.advance(1_500);
    assert.ok(told > 0);
    stop.abort();
    await watching;
  });
});
