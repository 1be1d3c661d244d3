import assert from 'node:assert/strict';
import { Closers } from './closers.ts';

describe('Closers', () => {
  it('closes in reverse order, one after the other', async () => {
    const order: string[] = [];
    const closers = new Closers();
    closers.defer(() => {
      order.push('first');
    });
    closers.defer(async () => {
      await new Promise((resolve) => setTimeout(resolve, 10));
      order.push('second');
    });
    await closers[Symbol.asyncDispose]();
    assert.deepEqual(order, ['second', 'first']);
  });

  it('closes the rest when one fails, and tells all failures', async () => {
    const closers = new Closers();
    let closed = false;
    closers.defer(() => {
      closed = true;
    });
    closers.defer(() => Promise.reject(new Error('a')));
    closers.defer(() => {
      throw new Error('b');
    });
    await assert.rejects(closers[Symbol.asyncDispose](), (error: AggregateError) => {
      assert.deepEqual(
        error.errors.map(({ message }: Error) => message),
        ['b', 'a'],
      );
      return true;
    });
    assert.ok(closed);
  });

  it('closes each once', async () => {
    let times = 0;
    const closers = new Closers();
    closers.defer(() => {
      times += 1;
    });
    await closers[Symbol.asyncDispose]();
    await closers[Symbol.asyncDispose]();
    assert.equal(times, 1);
  });
});
