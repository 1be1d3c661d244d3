import assert from 'node:assert/strict';
import { UserLimit } from './user-limit.ts';

const USER = 4_000_000;

describe('UserLimit', () => {
  it('lets a user take so many and no more, until one is given back', () => {
    const limit = new UserLimit(2);
    assert.deepEqual(
      [limit.enter(USER), limit.enter(USER), limit.enter(USER)],
      [true, true, false],
    );
    assert.equal(limit.enter(USER + 1), true);
    limit.leave(USER);
    assert.equal(limit.enter(USER), true);
    assert.equal(limit.enter(USER), false);
  });

  it('does not limit root', () => {
    const limit = new UserLimit(0);
    assert.equal(limit.enter(0), true);
    assert.equal(limit.enter(USER), false);
  });
});
