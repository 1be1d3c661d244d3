import assert from 'node:assert/strict';
import { createPublicKey, type KeyObject } from 'node:crypto';
import { signJwtSvid } from './jwt-svid.ts';
import { type ExpectedJwt, lintJwtSvid } from './jwt-svid-lint.ts';
import { SpiffeId } from './spiffe-id.ts';
import { generateKey } from './x509/key.ts';

const NOW = new Date('2026-11-25T10:00:00Z');
const inSeconds = (seconds: number) => new Date(NOW.getTime() + seconds * 1000);
const asked = {
  id: SpiffeId.parse('spiffe://example.org/web'),
  audience: ['db', 'cache'],
  ...{ issuedAt: NOW, expiresAt: inSeconds(300), keyId: 'k1', jti: 'j1', issuer: 'https://a' },
};

describe('lintJwtSvid', () => {
  let key: KeyObject;
  let expected: ExpectedJwt;
  before(async () => {
    key = await generateKey('ec-p256');
    expected = { ...asked, publicKey: createPublicKey(key), now: NOW };
  });

  const rule = (token: string, more: Partial<ExpectedJwt> = {}) => {
    try {
      lintJwtSvid(token, { ...expected, ...more });
      return undefined;
    } catch (error) {
      assert.ok(error instanceof Error);
      return error.message.replace('a token was made that breaks a rule: ', '');
    }
  };

  /** A token of these parts, whose signature is not looked at. */
  const made = (header: object, claims: object) =>
    [JSON.stringify(header), JSON.stringify(claims), 'signature'].map(encoded).join('.');
  const header = { alg: 'ES256', kid: 'k1', typ: 'JWT' };
  const claims = {
    ...{ sub: 'spiffe://example.org/web', aud: ['db', 'cache'], jti: 'j1', iss: 'https://a' },
    ...{ exp: inSeconds(300).getTime() / 1000, iat: NOW.getTime() / 1000 },
  };

  for (const keyType of ['ec-p256', 'ec-p384', 'rsa-2048'] as const)
    it(`passes what is signed by a key of type ${keyType}`, async () => {
      const own = await generateKey(keyType);
      const token = signJwtSvid({ ...asked, key: own });
      lintJwtSvid(token, { ...expected, publicKey: createPublicKey(own) });
    });

  it('passes a token without issuer and id where none was asked for', () => {
    const plain = { ...asked, jti: undefined, issuer: undefined };
    assert.equal(rule(signJwtSvid({ ...plain, key }), plain), undefined);
    assert.equal(rule(made(header, claims)), undefined);
  });

  const tokens: [string, object, object, string][] = [
    ['another algorithm', { alg: 'RS256' }, {}, 'algorithm of the authority'],
    ['another key id', { kid: 'k2' }, {}, 'key id of the authority'],
    ['no type', { typ: undefined }, {}, 'algorithm, key id and type as header'],
    ['another SPIFFE ID', {}, { sub: 'spiffe://example.org/b' }, 'SPIFFE ID as asked for'],
    ['one audience as text', {}, { aud: 'db' }, 'audience as asked for'],
    ['an audience too many', {}, { aud: ['db', 'cache', 'x'] }, 'audience as asked for'],
    ['a later end', {}, { exp: claims.exp + 1 }, 'end as asked for'],
    ['no end', {}, { exp: undefined }, 'end as asked for'],
    ['an end that is text', {}, { exp: String(claims.exp) }, 'end as asked for'],
    ['another beginning', {}, { iat: claims.iat - 1 }, 'issued as asked for'],
    ['another id', {}, { jti: 'j2' }, 'token id as asked for'],
    ['no issuer', {}, { iss: undefined }, 'issuer as asked for'],
    ['a claim more', {}, { admin: true }, 'no other claim'],
    ['not before', {}, { nbf: claims.iat }, 'no other claim'],
  ];
  for (const [what, head, body, broken] of tokens)
    it(`stops a token with ${what}`, () => {
      assert.equal(rule(made({ ...header, ...head }, { ...claims, ...body })), broken);
    });

  it('stops a token that no verifier reads', () => {
    const unread = 'a token was made that cannot be read';
    for (const [head, body] of [
      [{ ...header, alg: 'none' }, claims],
      [{ ...header, alg: 'HS256' }, claims],
      [{ ...header, jku: 'https://a' }, claims],
      [{ ...header, typ: 'JOSE' }, claims],
      [header, []],
    ] as const)
      assert.equal(rule(made(head, body)), unread);
    assert.equal(rule('a.b'), unread);
  });

  it('stops what must not have been asked for', () => {
    const wrong: [Partial<typeof asked>, string][] = [
      [{ id: SpiffeId.parse('spiffe://example.org') }, 'SPIFFE ID with a path'],
      [{ audience: [] }, 'an audience'],
      [{ expiresAt: NOW }, 'end to come'],
      [{ issuedAt: inSeconds(1) }, 'issued before now'],
    ];
    for (const [more, broken] of wrong)
      assert.equal(rule(signJwtSvid({ ...asked, ...more, key }), more), broken);
  });
});

function encoded(text: string): string {
  return Buffer.from(text).toString('base64url');
}
