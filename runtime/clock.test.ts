import assert from 'node:assert/strict';
import { systemClock } from './clock.ts';

describe('systemClock', () => {
  const { signal } = new AbortController();

  it('tells the wall clock, and milliseconds that never run back', () => {
    assert.ok(Math.abs(systemClock.now().getTime() - Date.now()) < 1000);
    let last = systemClock.monotonicMs();
    for (let n = 0; n < 1000; n++) {
      const next = systemClock.monotonicMs();
      assert.ok(next >= last);
      last = next;
    }
  });

  it('waits as long as it is told, and not at all for what is past', async () => {
    const started = performance.now();
    await systemClock.wait(60, signal);
    await systemClock.waitUntil(new Date(Date.now() + 60), signal);
    const took = performance.now() - started;
    assert.ok(took >= 115 && took < 5000, `took ${took} ms`);
    await systemClock.wait(-1, signal);
    await systemClock.waitUntil(new Date(0), signal);
    assert.ok(performance.now() - started < took + 1000);
  });

  it('waits for what is farther off than setTimeout reaches', async () => {
    const stop = new AbortController();
    const inAYear = new Date(Date.now() + 365 * 86_400_000);
    const waits = [
      systemClock.waitUntil(inAYear, stop.signal),
      systemClock.wait(3e10, stop.signal),
    ];
    const first = await Promise.race([
      ...waits,
      new Promise((resolve) => setTimeout(resolve, 50, 'still waiting')),
    ]);
    assert.equal(first, 'still waiting');
    stop.abort();
    for (const wait of waits) await assert.rejects(wait, { name: 'AbortError' });
  });
});
