import assert from 'node:assert/strict';
import { setImmediate as breathe } from 'node:timers/promises';
import { MetricsRegistry } from '../runtime/metrics.ts';
import { LoopDelay } from './loop-delay.ts';
import { serverMetrics } from './metrics.ts';

const NAME = 'writ_server_event_loop_delay_max_seconds';

describe('the delay of the event loop', () => {
  it('shows a turn that took long in both windows, later in the long one alone', async () => {
    const registry = new MetricsRegistry();
    const gauge = serverMetrics(registry).loopDelay;
    let second: () => void = () => undefined;
    const wait = () =>
      new Promise<void>((resolve) => {
        second = resolve;
      });
    await using delay = new LoopDelay({ clock: { wait }, gauge });
    const shown = (window: string) =>
      Number(new RegExp(`${NAME}{window="${window}"} (\\S+)`).exec(registry.render())?.[1]);
    const passSecond = async () => {
      second();
      await breathe();
    };
    // The timer that is to be late must have begun.
    for (const end = performance.now() + 50; performance.now() < end; ) await breathe();
    for (const end = performance.now() + 200; performance.now() < end; );
    for (const end = performance.now() + 30; performance.now() < end; ) await breathe();
    await passSecond();
    assert.ok(shown('1s') >= 0.19, `${shown('1s')}`);
    assert.equal(shown('1m'), shown('1s'));
    await passSecond();
    assert.ok(shown('1s') < shown('1m'));
    for (let left = 60; left > 0; left -= 1) await passSecond();
    assert.ok(shown('1m') < 0.19);
    const disposing = delay[Symbol.asyncDispose]();
    second();
    await disposing;
  });
});
