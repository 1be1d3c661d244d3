import assert from 'node:assert/strict';
import { parseTrustDomain, SpiffeId } from './spiffe-id.ts';

const invalid = { code: 'SPIFFE_ID_INVALID' };

describe('parseTrustDomain', () => {
  for (const name of ['example.org', 'a', '127.0.0.1', 'a_b-c', 'x'.repeat(255)]) {
    it(`takes ${name.slice(0, 20)}`, () => assert.equal(parseTrustDomain(name), name));
  }

  for (const name of ['', 'Example.org', 'a/b', 'a:1', '[::1]', 'a%41', 'ä', 'x'.repeat(256)]) {
    it(`refuses ${JSON.stringify(name.slice(0, 20))}`, () => {
      assert.throws(() => parseTrustDomain(name), invalid);
    });
  }
});

describe('SpiffeId', () => {
  const id = (text: string) => SpiffeId.parse(text);

  for (const text of [
    'spiffe://example.org',
    'spiffe://example.org/a',
    'spiffe://a/...',
    'spiffe://a/b/C_1.x-',
  ]) {
    it(`reads and writes ${text}`, () => assert.equal(id(text).toString(), text));
  }

  const wrong = {
    'another scheme': 'https://example.org/a',
    'an upper-case scheme': 'SPIFFE://example.org/a',
    'an upper-case trust domain': 'spiffe://Example.org/a',
    'no trust domain': 'spiffe:///a',
    'no authority': 'spiffe:example.org/a',
    'a port': 'spiffe://example.org:8080/a',
    userinfo: 'spiffe://me@example.org/a',
    'a query': 'spiffe://example.org/a?b',
    'a fragment': 'spiffe://example.org/a#b',
    'a percent escape': 'spiffe://example.org/a%41',
    'a trailing slash': 'spiffe://example.org/a/',
    'a slash alone': 'spiffe://example.org/',
    'an empty segment': 'spiffe://example.org/a//b',
    'a dot segment': 'spiffe://example.org/./a',
    'a dot-dot segment': 'spiffe://example.org/a/../b',
    'a control character': 'spiffe://example.org/a\n',
    'a NUL': 'spiffe://example.org/a\0',
    'a letter beyond ASCII': 'spiffe://example.org/ä',
    'white space before it': ' spiffe://example.org/a',
    'nothing at all': '',
  };
  for (const [what, text] of Object.entries(wrong)) {
    it(`refuses ${what}`, () => assert.throws(() => id(text), invalid));
  }

  it('takes 2048 bytes and refuses one more', () => {
    const text = `spiffe://example.org/${'a'.repeat(2048 - 21)}`;
    assert.equal(id(text).toString().length, 2048);
    assert.throws(() => id(`${text}a`), invalid);
    const name = parseTrustDomain('example.org');
    assert.throws(() => SpiffeId.fromSegments(name, 'a'.repeat(2028)), invalid);
  });

  it('names what is wrong without repeating more than 80 characters of it', () => {
    assert.throws(
      () => id(`spiffe://example.org/${'%'.repeat(500)}`),
      (error: Error) => error.message.includes('segment') && error.message.length < 200,
    );
  });

  it('refuses a segment that would break out of its place', () => {
    const name = parseTrustDomain('example.org');
    for (const segment of ['a/b', '..', '', '?']) {
      assert.throws(() => SpiffeId.fromSegments(name, segment), invalid);
    }
  });

  it('knows what is reserved', () => {
    for (const path of ['/spire', '/spire/server', '/writ', '/writ/gateway/main']) {
      assert.equal(id(`spiffe://example.org${path}`).isReserved, true, path);
    }
    for (const path of ['', '/spirelike', '/ns/spire', '/Spire/x']) {
      assert.equal(id(`spiffe://example.org${path}`).isReserved, false, path);
    }
  });
});
