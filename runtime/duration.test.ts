import assert from 'node:assert/strict';
import { formatDuration, parseDuration } from './duration.ts';

const YEAR = 365 * 86_400;

describe('parseDuration', () => {
  for (const [text, seconds] of [
    ['90s', 90],
    ['10m', 600],
    ['2h', 7200],
    ['365d', YEAR],
  ] as const) {
    it(`reads ${text}`, () => {
      assert.equal(parseDuration(text, '--ttl', YEAR), seconds);
      assert.equal(parseDuration(formatDuration(seconds), '--ttl', YEAR), seconds);
    });
  }

  for (const text of ['', '0s', '10', '-1m', '1.5h', '10m ', '1w', '366d', '9999999999s', '01s']) {
    it(`refuses ${JSON.stringify(text)}`, () => {
      assert.throws(() => parseDuration(text, '--ttl', YEAR), {
        code: 'USAGE',
        message: `--ttl ${JSON.stringify(text)}: write a duration up to 365d, such as 90s, 10m or 2h`,
      });
    });
  }
});

describe('formatDuration', () => {
  it('takes the largest unit that goes into it without rest', () => {
    const written = [1, 60, 61, 3600, 5400, 86_400, 90_000].map(formatDuration);
    assert.deepEqual(written, ['1s', '1m', '61s', '1h', '90m', '1d', '25h']);
  });
});
