import assert from 'node:assert/strict';
import { ConnectionLimits } from './connection-limits.ts';

describe('ConnectionLimits', () => {
  it('caps each address by itself and all together', () => {
    const limits = new ConnectionLimits({ maximumConnections: 3, maximumPerAddress: 2 });
    assert.equal(limits.enter('a'), undefined);
    assert.equal(limits.enter('a'), undefined);
    assert.equal(limits.enter('a'), 'too many connections from one address');
    assert.equal(limits.enter('b'), undefined);
    assert.equal(limits.enter('b'), 'too many connections');
    limits.leave('a');
    assert.equal(limits.enter('b'), undefined);
  });
});
