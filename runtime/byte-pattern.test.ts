import assert from 'node:assert/strict';
import { compilePattern, PatternError } from './byte-pattern.ts';

function end(pattern: string, text: string): number {
  const data = Buffer.from(text);
  return compilePattern(pattern).match(data, 0, data.length);
}

describe('compilePattern', () => {
  it('matches characters, classes and bounded repeats', () => {
    assert.equal(end('EMP-[0-9]{6}', 'EMP-123456x'), 10);
    assert.equal(end('EMP-[0-9]{6}', 'EMP-12345'), 0);
    assert.equal(end('[A-Za-z_]{2,4}\\d{2}', 'ab_12'), 5);
    assert.equal(end('a\\.b\\[c', 'a.b[c'), 5);
    assert.equal(end('abcd-?e', 'abcde'), 5);
    assert.equal(end('[^0-9]{4}', 'ab12'), 0);
    assert.equal(end('[a-]{4}', 'a-a-'), 4);
  });

  it('takes as much as it can and gives nothing back', () => {
    assert.equal(end('a{1,4}aaa', 'aaaa'), 0);
  });

  it('refuses what cannot be matched in linear time, and says so', () => {
    for (const pattern of [
      '(ab)cd',
      'abcd*',
      'abcd+',
      'ab|cdef',
      '^abcd',
      'abcd$',
      'abcd\\1',
      'x{3}',
    ]) {
      assert.throws(() => compilePattern(pattern), PatternError, pattern);
    }
    for (const pattern of [
      '[abc',
      'abcd{300}',
      'abcd{4,2}',
      'x{256}x{256}x{256}x{256}x',
      'z-a[z-a]',
      'é123',
    ]) {
      assert.throws(() => compilePattern(pattern), PatternError, pattern);
    }
    assert.throws(() => compilePattern('(ab)cd'), /"\(" is not served/);
  });
});
