import assert from 'node:assert/strict';
import { FakeClock } from '../test/fakes/fake-clock.ts';
import { RateLimit } from './rate-limit.ts';

const never = new AbortController().signal;

describe('RateLimit', () => {
  let clock: FakeClock;
  beforeEach(() => {
    clock = new FakeClock();
  });

  const progress = (limit: RateLimit, client: string, count = 1, signal = never) => {
    const state = { done: false, error: undefined as unknown };
    limit.take(client, count, signal).then(
      () => {
        state.done = true;
      },
      (error: unknown) => {
        state.error = error;
      },
    );
    return state;
  };
  const settle = () => new Promise((resolve) => setImmediate(resolve));

  it('makes the second call of a second wait, and not fail', async () => {
    const limit = new RateLimit({ perSecond: 1, clock });
    const [first, second, third] = [1, 2, 3].map(() => progress(limit, 'a'));
    await settle();
    assert.deepEqual([first?.done, second?.done, third?.done], [true, false, false]);
    await clock.advance(1000);
    await settle();
    assert.deepEqual([second?.done, third?.done], [true, false]);
    await clock.advance(1000);
    await settle();
    assert.equal(third?.done, true);
  });

  it('counts each address for itself, and the items of a batch', async () => {
    const limit = new RateLimit({ perSecond: 500, clock });
    const [batch, more, other] = [
      progress(limit, 'a', 500),
      progress(limit, 'a', 1),
      progress(limit, 'b', 500),
    ];
    await settle();
    assert.deepEqual([batch.done, more.done, other.done], [true, false, true]);
    await clock.advance(2);
    await settle();
    assert.equal(more.done, true);
  });

  it('refuses what is more than a second of it, or whose turn is more than a minute off', async () => {
    const limit = new RateLimit({ perSecond: 1, clock });
    await assert.rejects(limit.take('a', 2, never), { code: 'RESOURCE_EXHAUSTED' });
    for (let at = 0; at < 61; at += 1) progress(limit, 'a');
    await assert.rejects(limit.take('a', 1, never), { code: 'RESOURCE_EXHAUSTED' });
    await limit.take('b', 1, never);
  });

  it('refuses at once who would not wait that long, and takes no turn of the others', async () => {
    const limit = new RateLimit({ perSecond: 1, clock });
    await limit.take('a', 1, never, { withinMs: 0 });
    const impatient = limit.take('a', 1, never, { withinMs: 999 });
    await assert.rejects(impatient, { code: 'RESOURCE_EXHAUSTED' });
    const next = progress(limit, 'a');
    await clock.advance(1000);
    await settle();
    assert.equal(next.done, true);
  });

  it('gives back the turn of a caller who has gone', async () => {
    const limit = new RateLimit({ perSecond: 1, clock });
    await limit.take('a', 1, never);
    const gone = new AbortController();
    const left = progress(limit, 'a', 1, gone.signal);
    gone.abort();
    await settle();
    assert.ok(left.error !== undefined);
    const next = progress(limit, 'a');
    await clock.advance(1000);
    await settle();
    assert.equal(next.done, true);
  });

  it('remembers only so many addresses, and forgets those that have been idle', async () => {
    const limit = new RateLimit({ perSecond: 1, clock });
    for (let at = 0; at < 10_000; at += 1) await limit.take(`a${at}`, 1, never);
    await assert.rejects(limit.take('new', 1, never), { code: 'RESOURCE_EXHAUSTED' });
    await clock.advance(1000);
    await limit.take('new', 1, never);
    assert.equal(limit.size, 1);
  });
});
