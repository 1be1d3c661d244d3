import assert from 'node:assert/strict';
import { authorizeAny, authorizeId } from './authorizer.ts';
import { SpiffeId } from './spiffe-id.ts';

describe('authorizeId', () => {
  it('admits that identity and no other', () => {
    const admits = authorizeId(SpiffeId.parse('spiffe://example.org/web'));
    assert.equal(admits(SpiffeId.parse('spiffe://example.org/web')), true);
    assert.equal(admits(SpiffeId.parse('spiffe://example.org/web/2')), false);
    assert.equal(admits(SpiffeId.parse('spiffe://example.com/web')), false);
  });
});

describe('authorizeAny', () => {
  it('admits every identity', () => {
    assert.equal(authorizeAny()(SpiffeId.parse('spiffe://example.org/web')), true);
  });
});
