import assert from 'node:assert/strict';
import { notice } from './notice.ts';

describe('notice', () => {
  it('is one line that moves no cursor, whoever wrote it', () => {
    const text = 'locked:\r\n\x1b[2Jnight \u202eshift\u2028, über';
    assert.equal(notice(text), 'writ: locked: [2Jnight  shift , über');
  });

  it('is bounded', () => {
    assert.equal(notice('x'.repeat(10_000)).length, 506);
  });
});
