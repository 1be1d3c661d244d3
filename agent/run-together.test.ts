import assert from 'node:assert/strict';
import { systemClock } from '../runtime/clock.ts';
import { runTogether } from './run-together.ts';

const forever = (signal: AbortSignal) => systemClock.wait(60_000, signal);

describe('runTogether', () => {
  it('stops all tasks when one fails, and throws what that threw', async () => {
    const signal = new AbortController().signal;
    const fail = async () => {
      throw new Error('first');
    };
    await assert.rejects(runTogether(signal, [forever, fail, forever]), /first/);
  });

  it('stops all tasks when one ends', async () => {
    await runTogether(new AbortController().signal, [forever, async () => undefined]);
  });

  it('resolves when its signal aborts, whatever tasks throw then', async () => {
    const stop = new AbortController();
    const ended = runTogether(stop.signal, [forever, forever]);
    stop.abort();
    await ended;
    await runTogether(stop.signal, [forever]);
  });
});
