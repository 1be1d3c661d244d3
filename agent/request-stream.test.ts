import assert from 'node:assert/strict';
import { RequestStream } from './request-stream.ts';

describe('RequestStream', () => {
  it('yields what is pushed before and while it is read, and ends after the last', async () => {
    const stream = new RequestStream<number>();
    stream.push(1);
    stream.push(2);
    const seen: number[] = [];
    for await (const value of stream) {
      seen.push(value);
      if (value === 2) setTimeout(() => stream.push(3), 5);
      if (value === 3) setTimeout(() => stream.end(), 5);
    }
    assert.deepEqual(seen, [1, 2, 3]);
  });

  it('yields what was pushed before it was ended', async () => {
    const stream = new RequestStream<number>();
    stream.push(1);
    stream.end();
    const seen: number[] = [];
    for await (const value of stream) seen.push(value);
    assert.deepEqual(seen, [1]);
  });
});
