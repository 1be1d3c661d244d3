import assert from 'node:assert/strict';
import { begunStream } from './begun-stream.ts';

describe('begunStream', () => {
  let isOpen: boolean;
  async function* numbers(...all: readonly number[]) {
    isOpen = true;
    try {
      yield* all;
    } finally {
      isOpen = false;
    }
  }
  const read = async (requests: AsyncIterable<number>) => {
    const found: number[] = [];
    for await (const request of requests) found.push(request);
    return found;
  };

  it('tells the first request and gives all of them', async () => {
    await using begun = await begunStream(numbers(1, 2, 3));
    assert.equal(begun.first, 1);
    assert.deepEqual(await read(begun.requests), [1, 2, 3]);
  });

  it('tells of a stream that ends without any', async () => {
    await using begun = await begunStream(numbers());
    assert.equal(begun.first, undefined);
    assert.deepEqual(await read(begun.requests), []);
  });

  it('ends the stream where it is not read to its end', async () => {
    {
      await using begun = await begunStream(numbers(1, 2, 3));
      assert.equal(begun.first, 1);
      assert.equal(isOpen, true);
    }
    assert.equal(isOpen, false);
  });
});
