import assert from 'node:assert/strict';
import { randomId } from './random-id.ts';

describe('randomId', () => {
  it('is its prefix and 128 bits in 26 letters of lower-case base32', () => {
    const ids = Array.from({ length: 1000 }, () => randomId('s_'));
    for (const id of ids) assert.match(id, /^s_[a-z2-7]{25}[aeimquy4]$/);
    assert.equal(new Set(ids).size, ids.length);
  });

  it('uses every letter at every place', () => {
    const ids = Array.from({ length: 2000 }, () => randomId(''));
    for (let place = 0; place < 25; place += 1) {
      assert.equal(new Set(ids.map((id) => id[place])).size, 32, `place ${place}`);
    }
  });
});
