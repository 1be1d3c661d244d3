import assert from 'node:assert/strict';
import { LoopTurns } from './loop-turns.ts';

describe('LoopTurns', () => {
  it('lets one caller in each turn of the event loop', async () => {
    const turns = new LoopTurns();
    let turn = 0;
    let counting = true;
    const count = () => {
      turn += 1;
      if (counting) setImmediate(count);
    };
    setImmediate(count);
    const seen = await Promise.all(Array.from({ length: 20 }, () => turns.next().then(() => turn)));
    counting = false;
    assert.equal(new Set(seen).size, 20);
  });
});
