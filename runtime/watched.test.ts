import assert from 'node:assert/strict';
import { setMaxListeners } from 'node:events';
import { countListeners } from '../test/fixtures/count-listeners.ts';
import { Watched } from './watched.ts';

describe('Watched', () => {
  it('gives the value now and each newer one, and ends when the signal aborts', async () => {
    const watched = new Watched(1);
    const stop = new AbortController();
    const seen: number[] = [];
    for await (const value of watched.values(stop.signal)) {
      seen.push(value);
      if (value === 3) stop.abort();
      else setTimeout(() => watched.set(value + 1), 1);
    }
    assert.deepEqual(seen, [1, 2, 3]);
    assert.equal(watched.value, 3);
  });

  it('gives a slow reader the newest value and none of those between', async () => {
    const watched = new Watched(1);
    const values = watched.values(new AbortController().signal)[Symbol.asyncIterator]();
    await values.next();
    for (const value of [2, 3, 4]) watched.set(value);
    assert.deepEqual(await values.next(), { done: false, value: 4 });
    await values.return?.();
  });

  it('does not wake a reader for a value that is the same', async () => {
    const watched = new Watched('a');
    const values = watched.values(new AbortController().signal)[Symbol.asyncIterator]();
    await values.next();
    const next = values.next();
    watched.set('a');
    const first = await Promise.race([
      next,
      new Promise((resolve) => setTimeout(resolve, 20, 'waits')),
    ]);
    assert.equal(first, 'waits');
    watched.set('b');
    assert.equal((await next).value, 'b');
  });

  it('ends at once for a signal that has aborted, and while it waits', async () => {
    const watched = new Watched(1);
    for await (const _ of watched.values(AbortSignal.abort())) assert.fail();
    const stop = new AbortController();
    const values = watched.values(stop.signal)[Symbol.asyncIterator]();
    await values.next();
    const next = values.next();
    stop.abort();
    assert.equal((await next).done, true);
  });

  it('serves many readers, and leaves no listener on their signal', async () => {
    const watched = new Watched(0);
    const { signal } = new AbortController();
    setMaxListeners(0, signal);
    const listeners = countListeners(signal);
    const readers = Array.from({ length: 100 }, async () => {
      for await (const value of watched.values(signal)) if (value === 5) return value;
      return assert.fail();
    });
    for (let value = 1; value <= 5; value++) {
      await new Promise((resolve) => setImmediate(resolve));
      watched.set(value);
    }
    assert.equal((await Promise.all(readers)).length, 100);
    assert.equal(listeners(), 0);
  });
});
