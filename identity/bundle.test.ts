import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose';
import { fingerprintOf, handMadeCa } from '../test/fixtures/hand-made-certificate.ts';
import {
  type Bundle,
  bundleFromJwks,
  bundleFromX509Der,
  bundlePin,
  bundleToJwks,
  bundleToPem,
  bundleToX509Der,
  keepsX509Authorities,
  makeBundle,
  splitX509Der,
  x509Authority,
} from './bundle.ts';
import { signJwtSvid } from './jwt-svid.ts';
import { parseTrustDomain, SpiffeId } from './spiffe-id.ts';
import { decodePem } from './x509/pem.ts';

const trustDomain = parseTrustDomain('example.org');
const invalid = { code: 'INVALID_ARGUMENT' };
const roots = [handMadeCa(), handMadeCa()].map(({ der }) => der);
const jwtKey = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const jwt = [{ keyId: 'k1', publicKey: jwtKey.publicKey, expiresAt: undefined, tainted: false }];

function sample(): Bundle {
  return makeBundle({ trustDomain, x509: roots, jwt, sequenceNumber: 7n, refreshHintSeconds: 300 });
}

const ders = (bundle: Bundle) => bundle.x509Authorities.map(({ der }) => Buffer.from(der));

describe('makeBundle', () => {
  it('keeps its own copy of each authority', () => {
    const der = Buffer.from(roots[0] ?? []);
    const bundle = makeBundle({ trustDomain, x509: [der] });
    der.fill(0);
    assert.deepEqual(ders(bundle), [roots[0]]);
  });

  it('takes authorities that are tainted', () => {
    const [first = Buffer.alloc(0)] = roots;
    const bundle = makeBundle({ trustDomain, x509: [x509Authority(first, true)] });
    assert.equal(bundle.x509Authorities[0]?.tainted, true);
  });

  it('refuses what is no certificate, a weak key, and more than 256', () => {
    const weak = generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey;
    const algorithm = {
      identifier: Buffer.from('300d06092a864886f70d01010b0500', 'hex'),
      hash: 'sha256',
    };
    const refused = [
      [Buffer.from('hello')],
      [handMadeCa({ key: weak, algorithm }).der],
      Array<Uint8Array>(257).fill(roots[0] ?? Buffer.alloc(0)),
    ];
    for (const x509 of refused) assert.throws(() => makeBundle({ trustDomain, x509 }), invalid);
  });
});

describe('bundleToPem', () => {
  it('writes each authority', () => {
    assert.deepEqual(decodePem('CERTIFICATE', bundleToPem(sample())), roots);
  });
});

describe('bundleFromX509Der', () => {
  it('reads what bundleToX509Der writes', () => {
    assert.deepEqual(ders(bundleFromX509Der(trustDomain, bundleToX509Der(sample()))), roots);
    assert.deepEqual(ders(bundleFromX509Der(trustDomain, Buffer.alloc(0))), []);
  });

  it('refuses bytes that are no certificates', () => {
    for (const bytes of [Buffer.from('hello'), Buffer.concat([...roots, Buffer.of(0x30)])]) {
      assert.throws(() => bundleFromX509Der(trustDomain, bytes), invalid);
    }
  });
});

describe('splitX509Der', () => {
  it('refuses more than 1 MiB before it looks', () => {
    assert.throws(() => splitX509Der(Buffer.alloc(1_048_577)), invalid);
  });
});

describe('bundleToJwks', () => {
  it('writes keys of both uses, with kid on JWT keys alone and one certificate each', () => {
    const document = JSON.parse(bundleToJwks(sample(), 'all'));
    assert.equal(document.spiffe_sequence, 7);
    assert.equal(document.spiffe_refresh_hint, 300);
    const seen = document.keys.map((key: Record<string, unknown>) => ({
      use: key.use,
      kid: key.kid,
      certificates: Array.isArray(key.x5c) ? key.x5c.length : 0,
      isPublic: key.d === undefined,
    }));
    const x509 = { use: 'x509-svid', kid: undefined, certificates: 1, isPublic: true };
    const forJwt = { use: 'jwt-svid', kid: 'k1', certificates: 0, isPublic: true };
    assert.deepEqual(seen, [x509, x509, forJwt]);
  });

  it('holds no key of another use where only JWT keys are asked for', () => {
    const document = JSON.parse(bundleToJwks(sample(), 'jwt-svid'));
    assert.deepEqual(Object.keys(document), ['keys']);
    assert.deepEqual(
      document.keys.map((key: { use: string }) => key.use),
      ['jwt-svid'],
    );
  });

  it('is a key set that jose verifies a JWT-SVID with', async () => {
    const token = signJwtSvid({
      id: SpiffeId.parse('spiffe://example.org/web'),
      audience: ['a'],
      issuedAt: new Date(),
      expiresAt: new Date(Date.now() + 60_000),
      keyId: 'k1',
      key: jwtKey.privateKey,
    });
    const keys: JSONWebKeySet = JSON.parse(bundleToJwks(sample(), 'jwt-svid'));
    const { payload } = await jwtVerify(
      token,
      createLocalJWKSet({
        keys: keys.keys.map(({ use: _, ...key }) => key),
      }),
    );
    assert.equal(payload.sub, 'spiffe://example.org/web');
  });

  it('keeps a sequence number beyond 53 bits', () => {
    const bundle = makeBundle({ trustDomain, x509: [], sequenceNumber: 2n ** 63n });
    assert.equal(bundleToJwks(bundle, 'all'), '{"keys":[],"spiffe_sequence":9223372036854775808}');
  });
});

describe('bundleFromJwks', () => {
  it('reads what bundleToJwks writes', () => {
    const read = bundleFromJwks(trustDomain, bundleToJwks(sample(), 'all'));
    assert.deepEqual(ders(read), roots);
    assert.equal(read.sequenceNumber, 7n);
    assert.equal(read.refreshHintSeconds, 300);
    assert.equal(read.jwtAuthorities[0]?.keyId, 'k1');
    assert.ok(read.jwtAuthorities[0]?.publicKey.equals(jwtKey.publicKey));
  });

  const keys = (...list: unknown[]) => JSON.stringify({ keys: list });
  const x5c = roots.map((der) => der.toString('base64'));

  it('passes over unknown uses and types, and keys without a certificate', () => {
    const json = keys(
      { use: 'wit-svid', kty: 'EC', kid: 'w' },
      { use: 'X509-SVID', kty: 'EC', x5c },
      { kty: 'EC', x5c },
      { use: 'jwt-svid', kty: 'AKP', kid: 'k' },
      { use: 'x509-svid', kty: 'AKP', x5c: ['AAAA'] },
      { use: 'x509-svid', x5c },
      { use: 'x509-svid', kty: 'EC' },
      { use: 'x509-svid', kty: 'EC', x5c: [] },
    );
    const bundle = bundleFromJwks(trustDomain, json);
    assert.deepEqual([bundle.x509Authorities, bundle.jwtAuthorities], [[], []]);
  });

  it('uses only the first certificate of a key', () => {
    const bundle = bundleFromJwks(trustDomain, keys({ use: 'x509-svid', kty: 'EC', x5c }));
    assert.deepEqual(ders(bundle), [roots[0]]);
  });

  it('reads a sequence number beyond 53 bits', () => {
    const json = bundleToJwks(
      makeBundle({ trustDomain, x509: [], sequenceNumber: 2n ** 64n - 1n }),
      'all',
    );
    assert.equal(bundleFromJwks(trustDomain, json).sequenceNumber, 2n ** 64n - 1n);
  });

  it('takes two objects of a list for two, and braces in text for text', () => {
    const json = `{"a":[{"b":1},{"b":"}{\\"a"}], "keys" : [] ,"spiffe_sequence": 4 }`;
    assert.equal(bundleFromJwks(trustDomain, json).sequenceNumber, 4n);
  });

  it('never keeps the private part of a key', () => {
    const jwk = jwtKey.privateKey.export({ format: 'jwk' });
    const [authority] = bundleFromJwks(
      trustDomain,
      keys({ ...jwk, use: 'jwt-svid', kid: 'k' }),
    ).jwtAuthorities;
    assert.equal(authority?.publicKey.type, 'public');
    assert.ok(authority?.publicKey.equals(createPublicKey(jwtKey.privateKey)));
  });

  const wrong = {
    'no JSON': '{',
    'no keys': '{}',
    'keys that are no list': '{"keys":{}}',
    'a key that is no object': keys(1),
    'a JWT key without kid': keys({
      ...jwtKey.publicKey.export({ format: 'jwk' }),
      use: 'jwt-svid',
    }),
    'a JWT key that cannot be read': keys({ use: 'jwt-svid', kty: 'EC', kid: 'k', crv: 'P-256' }),
    'a certificate that cannot be read': keys({ use: 'x509-svid', kty: 'EC', x5c: ['AAAA'] }),
    'a certificate that is no text': keys({ use: 'x509-svid', kty: 'EC', x5c: [1] }),
    'a broken sequence number': '{"keys":[],"spiffe_sequence":1.5}',
    'a sequence number that is text': '{"keys":[],"spiffe_sequence":"1"}',
    'a sequence number beyond 64 bits': `{"keys":[],"spiffe_sequence":${2n ** 64n}}`,
    'keys that are there twice': '{"keys":[],"keys":[]}',
    'keys that are there twice, one in disguise': '{"keys":[],"k\\u0065ys":[]}',
    'a key with two uses': '{"keys":[{"use":"jwt-svid","kty":"EC","use":"x509-svid"}]}',
    'a negative hint': '{"keys":[],"spiffe_refresh_hint":-1}',
    'more than 1 MiB': ' '.repeat(1_048_577),
  };
  for (const [what, json] of Object.entries(wrong)) {
    it(`refuses ${what}`, () => assert.throws(() => bundleFromJwks(trustDomain, json), invalid));
  }
});

describe('bundlePin', () => {
  it('is the SHA-256 of the first authority', () => {
    assert.equal(bundlePin(sample()), fingerprintOf(roots[0] ?? Buffer.alloc(0)));
  });

  it('refuses a bundle without authorities', () => {
    const empty = makeBundle({ trustDomain, x509: [] });
    assert.throws(() => bundlePin(empty), { code: 'FAILED_PRECONDITION' });
  });
});

describe('keepsX509Authorities', () => {
  it('tells an authority that left from one that came', () => {
    const [first = Buffer.alloc(0)] = roots;
    const one = makeBundle({ trustDomain, x509: [first] });
    assert.equal(keepsX509Authorities(one, sample()), true);
    assert.equal(keepsX509Authorities(sample(), one), false);
  });
});
