import assert from 'node:assert/strict';
import { StreamLimit } from './stream-limit.ts';

async function* numbers() {
  yield 1;
  yield 2;
}

describe('StreamLimit', () => {
  it('lets a caller hold so many streams and no more, until one has ended', async () => {
    const limit = new StreamLimit(2);
    const [first, second, third] = [1, 2, 3].map(() => limit.hold('a', numbers));
    assert.deepEqual(
      [await first?.next(), await second?.next()].map((one) => one?.value),
      [1, 1],
    );
    await assert.rejects(async () => third?.next(), { code: 'RESOURCE_EXHAUSTED' });
    assert.equal((await limit.hold('b', numbers).next()).value, 1);
    await first?.return(undefined);
    assert.equal((await limit.hold('a', numbers).next()).value, 1);
    await assert.rejects(limit.hold('a', numbers).next(), { code: 'RESOURCE_EXHAUSTED' });
  });
});
