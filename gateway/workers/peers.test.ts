import assert from 'node:assert/strict';
import { leaseNames } from './peers.ts';

const GATEWAY = 'spiffe://example.org/writ/gateway/gw-1';

describe('leaseNames', () => {
  it('gives each process of a gateway a name of its own', () => {
    assert.equal(leaseNames(GATEWAY).own, GATEWAY);
    const names = [0, 1, 2].map((index) => leaseNames(GATEWAY, { index, count: 3 }).own);
    assert.equal(new Set(names).size, 3);
  });

  it('lets no process end what another that may live holds', () => {
    for (const index of [0, 1, 2]) {
      for (const other of [0, 1, 2]) {
        const { own } = leaseNames(GATEWAY, { index: other, count: 3 });
        assert.equal(leaseNames(GATEWAY, { index, count: 3 }).isOurs(own), index === other);
      }
      assert.equal(leaseNames(GATEWAY, { index, count: 3 }).isOurs(`${GATEWAY}0`), false);
      assert.equal(leaseNames(GATEWAY, { index, count: 3 }).isOurs(''), false);
    }
  });

  it('lets exactly one end what is left of another number of processes', () => {
    const before = [leaseNames(GATEWAY), leaseNames(GATEWAY, { index: 3, count: 4 })];
    for (const { own } of before) {
      const enders = [0, 1, 2].filter((index) =>
        leaseNames(GATEWAY, { index, count: 3 }).isOurs(own),
      );
      assert.deepEqual(enders, [0]);
    }
    for (const index of [0, 3]) {
      assert.ok(leaseNames(GATEWAY).isOurs(leaseNames(GATEWAY, { index, count: 4 }).own));
    }
  });
});
