import assert from 'node:assert/strict';
import { createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { jwtVerify, SignJWT } from 'jose';
import { type JwtAuthority, makeBundle } from './bundle.ts';
import { jwtSigner, signJwtSvid, verifyJwtSvid } from './jwt-svid.ts';
import { localSigner, type Signer } from './signer.ts';
import { parseTrustDomain, SpiffeId, type TrustDomain } from './spiffe-id.ts';
import { generateKey } from './x509/key.ts';

const trustDomain = parseTrustDomain('example.org');
const id = SpiffeId.parse('spiffe://example.org/web');
const now = new Date('2026-11-25T12:00:00Z');
const seconds = now.getTime() / 1000;
const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const rsaKeys = generateKeyPairSync('rsa', { modulusLength: 2048 });

const authority = (keyId: string, publicKey: KeyObject, more: Partial<JwtAuthority> = {}) => ({
  keyId,
  publicKey,
  expiresAt: undefined,
  tainted: false,
  ...more,
});

const bundle = makeBundle({
  trustDomain,
  x509: [],
  jwt: [
    authority('k1', keys.publicKey),
    authority('rsa', rsaKeys.publicKey),
    authority('weak', generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey),
    authority('old', keys.publicKey, { expiresAt: now }),
  ],
});
const bundles = (name: TrustDomain) => (name === trustDomain ? bundle : undefined);

const init = {
  id,
  audience: ['db', 'cache'],
  issuedAt: now,
  expiresAt: new Date(now.getTime() + 300_000),
  keyId: 'k1',
  key: keys.privateKey,
};
const verify = (token: string, audience = 'db', at = now) =>
  verifyJwtSvid(token, audience, bundles, at);

describe('signJwtSvid', () => {
  it('signs what jose verifies', async () => {
    const token = signJwtSvid({ ...init, jti: 'j1' });
    const { payload, protectedHeader } = await jwtVerify(token, keys.publicKey, {
      audience: 'cache',
      subject: id.toString(),
      currentDate: now,
    });
    assert.deepEqual(protectedHeader, { alg: 'ES256', kid: 'k1', typ: 'JWT' });
    assert.deepEqual(payload, {
      sub: 'spiffe://example.org/web',
      aud: ['db', 'cache'],
      exp: seconds + 300,
      iat: seconds,
      jti: 'j1',
    });
  });

  it('says who issued it where it is told', () => {
    const { claims } = verify(signJwtSvid({ ...init, issuer: 'https://oidc.example.org' }));
    assert.equal(claims.iss, 'https://oidc.example.org');
  });

  it('refuses a key that signs no JWT-SVIDs', () => {
    const { privateKey } = generateKeyPairSync('ed25519');
    assert.throws(() => signJwtSvid({ ...init, key: privateKey }), /P-256/);
  });
});

describe('jwtSigner', () => {
  for (const [keyType, alg] of [
    ['ec-p256', 'ES256'],
    ['ec-p384', 'ES384'],
    ['rsa-2048', 'RS256'],
    ['rsa-4096', 'RS256'],
  ] as const) {
    it(`signs ${alg} with ${keyType}, here or elsewhere, what jose verifies`, async () => {
      const local = localSigner(await generateKey(keyType));
      const remote: Signer = { ...local, sign: async (...parts) => local.sign(...parts) };
      const { key: _, ...said } = init;
      // Numbers that start with a zero byte come about once in 128 signatures.
      const tokens = Array.from({ length: alg === 'RS256' ? 1 : 400 }, () =>
        jwtSigner(local)(said),
      );
      assert.ok(tokens.every((token) => typeof token === 'string'));
      for (const token of await Promise.all([...tokens, jwtSigner(remote)(said)])) {
        const { protectedHeader } = await jwtVerify(token, local.publicKey, { currentDate: now });
        assert.equal(protectedHeader.alg, alg);
      }
    }).timeout(30_000);
  }
});

describe('verifyJwtSvid', () => {
  it('takes what signJwtSvid makes', () => {
    const verified = verify(signJwtSvid(init));
    assert.equal(verified.id.toString(), id.toString());
    assert.deepEqual(verified.audience, ['db', 'cache']);
    assert.deepEqual(verified.expiresAt, init.expiresAt);
    assert.equal(verified.claims.iat, seconds);
  });

  const byJose = (alg: string, key: KeyObject, kid: string) =>
    new SignJWT({ aud: 'db', sub: id.toString(), exp: seconds + 60 })
      .setProtectedHeader({ alg, kid })
      .sign(key);

  for (const alg of ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512']) {
    it(`takes ${alg} as jose signs it`, async () => {
      assert.deepEqual(verify(await byJose(alg, rsaKeys.privateKey, 'rsa')).audience, ['db']);
    });
  }

  for (const [alg, namedCurve] of [
    ['ES256', 'P-256'],
    ['ES384', 'P-384'],
    ['ES512', 'P-521'],
  ] as const) {
    it(`takes ${alg} as jose signs it`, async () => {
      const pair = generateKeyPairSync('ec', { namedCurve });
      const own = makeBundle({ trustDomain, x509: [], jwt: [authority('e', pair.publicKey)] });
      const token = await byJose(alg, pair.privateKey, 'e');
      assert.deepEqual(verifyJwtSvid(token, 'db', () => own, now).audience, ['db']);
    });
  }

  const goodHeader = { alg: 'ES256', kid: 'k1', typ: 'JWT' };
  const goodClaims = { sub: id.toString(), aud: ['db'], exp: seconds + 60 };
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = (head: string, body: string) => {
    const signature = sign('sha256', Buffer.from(`${head}.${body}`), {
      key: keys.privateKey,
      dsaEncoding: 'ieee-p1363',
    });
    return `${head}.${body}.${signature.toString('base64url')}`;
  };
  const token = (header: object, claims: object) =>
    signed(part({ ...goodHeader, ...header }), part({ ...goodClaims, ...claims }));
  const unsigned = (header: object) => `${part({ ...goodHeader, ...header })}.${part(goodClaims)}`;
  const publicPem = keys.publicKey.export({ type: 'spki', format: 'pem' });
  const mac = createHmac('sha256', publicPem)
    .update(unsigned({ alg: 'HS256' }))
    .digest('base64url');
  const good = token({}, {});

  const refused: Record<string, [string, RegExp]> = {
    'no algorithm': [`${unsigned({ alg: 'none' })}.`, /algorithm/],
    'an HMAC keyed with the public key': [`${unsigned({ alg: 'HS256' })}.${mac}`, /algorithm/],
    EdDSA: [token({ alg: 'EdDSA' }, {}), /algorithm/],
    'an algorithm that is inherited, not named': [token({ alg: 'constructor' }, {}), /algorithm/],
    'an algorithm of another kind of key': [token({ alg: 'ES256', kid: 'rsa' }, {}), /signature/],
    'RSA of 1024 bits': [token({ alg: 'RS256', kid: 'weak' }, {}), /signature/],
    'no key id': [token({ kid: undefined }, {}), /key id/],
    'a key id that is unknown': [token({ kid: 'k2' }, {}), /key id/],
    'a key that has expired': [token({ kid: 'old' }, {}), /key expired/],
    'another type': [token({ typ: 'wit+jwt' }, {}), /type/],
    'a header beyond alg, kid and typ': [token({ jku: 'https://evil' }, {}), /header/],
    'a critical header': [token({ crit: ['exp'] }, {}), /header/],
    'no subject': [token({}, { sub: undefined }), /subject/],
    'a subject that is no SPIFFE ID': [token({}, { sub: 'web' }), /SPIFFE ID/],
    'a subject of an unknown trust domain': [
      token({}, { sub: 'spiffe://example.com/web' }),
      /trust domain/,
    ],
    'no audience': [token({}, { aud: undefined }), /audience/],
    'an empty audience': [token({}, { aud: [] }), /another audience/],
    'another audience': [token({}, { aud: ['cache'] }), /another audience/],
    'an audience that only begins alike': [token({}, { aud: 'db2' }), /another audience/],
    'an audience that is no text': [token({}, { aud: ['db', 1] }), /audience/],
    'no expiry': [token({}, { exp: undefined }), /expiry/],
    'an expiry that is no number': [token({}, { exp: `${seconds + 60}` }), /exp is no time/],
    'an expiry beyond all time': [token({}, { exp: 1e300 }), /exp is no time/],
    'an expiry just reached': [token({}, { exp: seconds }), /expired/],
    'a start to come': [token({}, { nbf: seconds + 1 }), /not yet valid/],
    'an issue time that is no number': [token({}, { iat: 'x' }), /iat is no time/],
    'claims that are a list': [signed(part(goodHeader), part([])), /JSON object/],
    'claims that are no JSON': [
      signed(part(goodHeader), Buffer.from('{').toString('base64url')),
      /JSON/,
    ],
    'claims that are no UTF-8': [
      signed(part(goodHeader), Buffer.of(0xff).toString('base64url')),
      /./,
    ],
    'two parts': [good.split('.').slice(0, 2).join('.'), /three parts/],
    'four parts': [`${good}.`, /three parts/],
    'a signature in DER': [
      `${good.split('.').slice(0, 2).join('.')}.${sign('sha256', Buffer.from(good), keys.privateKey).toString('base64url')}`,
      /signature/,
    ],
    'no signature': [`${good.split('.').slice(0, 2).join('.')}.`, /signature/],
    padding: [`${good}=`, /base64url/],
    'white space': [`${good}\n`, /base64url/],
    'JSON serialisation': [JSON.stringify({ payload: part(goodClaims) }), /three parts/],
    'more than 16 KiB': [token({}, { more: 'x'.repeat(16_384) }), /16 KiB/],
    nothing: ['', /three parts/],
  };
  for (const [what, [text, reason]] of Object.entries(refused)) {
    it(`refuses ${what}`, () => {
      assert.throws(
        () => verify(text),
        (error: Error & { code?: string }) =>
          error.code === 'JWT_SVID_INVALID' &&
          error.message === 'JWT-SVID refused' &&
          error.cause instanceof Error &&
          reason.test(error.cause.message),
      );
    });
  }

  it('refuses a bundle of another trust domain, even if it is handed one', () => {
    const other = { ...bundle, trustDomain: parseTrustDomain('example.com') };
    assert.throws(() => verifyJwtSvid(good, 'db', () => other, now), { code: 'JWT_SVID_INVALID' });
  });

  it('refuses each token of which one character has been changed', () => {
    for (let at = 0; at < good.length; at++) {
      const bad = good.slice(0, at) + (good[at] === 'A' ? 'B' : 'A') + good.slice(at + 1);
      assert.throws(() => verify(bad), { code: 'JWT_SVID_INVALID' }, `character ${at}`);
    }
  });

  it('leaves the prototype of the claims alone', () => {
    const body = Buffer.from(`{"__proto__":{"x":1},${JSON.stringify(goodClaims).slice(1)}`);
    const { claims } = verify(signed(part(goodHeader), body.toString('base64url')));
    assert.equal(Object.getPrototypeOf(claims), Object.prototype);
    assert.equal(claims.x, undefined);
  });
});
