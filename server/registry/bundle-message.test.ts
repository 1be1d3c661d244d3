import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { create } from '@bufbuild/protobuf';
import { bundleFromJwks, bundleToJwks } from '../../identity/bundle.ts';
import { parseTrustDomain } from '../../identity/spiffe-id.ts';
import { spkiOf } from '../../identity/x509/key.ts';
import { BundleSchema, JWTKeySchema } from '../../proto/gen/spire/api/types/bundle_pb.ts';
import { bundleFromMessage, jwtFromMessages, keptBundleFromMessage } from './bundle-message.ts';

const ec = (namedCurve: string) => generateKeyPairSync('ec', { namedCurve }).publicKey;
const rsa = (modulusLength: number) => generateKeyPairSync('rsa', { modulusLength }).publicKey;

const GOOD: readonly [string, () => KeyObject][] = [
  ['P-256', () => ec('P-256')],
  ['P-384', () => ec('P-384')],
  ['P-521', () => ec('P-521')],
  ['RSA of 2048 bits', () => rsa(2048)],
  ['RSA of 3072 bits', () => rsa(3072)],
];
const UNFIT: readonly [string, () => KeyObject][] = [
  ['secp256k1', () => ec('secp256k1')],
  ['P-224', () => ec('secp224r1')],
  ['RSA of 1024 bits', () => rsa(1024)],
  ['RSA for PSS alone', () => generateKeyPairSync('rsa-pss', { modulusLength: 2048 }).publicKey],
  ['Ed25519', () => generateKeyPairSync('ed25519').publicKey],
  ['Ed448', () => generateKeyPairSync('ed448').publicKey],
  ['X25519', () => generateKeyPairSync('x25519').publicKey],
  ['DSA', () => generateKeyPairSync('dsa', { modulusLength: 1024, divisorLength: 160 }).publicKey],
  [
    'P-256 with parameters of its own',
    () => generateKeyPairSync('ec', { namedCurve: 'P-256', paramEncoding: 'explicit' }).publicKey,
  ],
];
const message = (key: KeyObject) =>
  create(JWTKeySchema, { keyId: 'k', publicKey: spkiOf(key), expiresAt: 4_000_000_000n });

describe('jwtFromMessages', () => {
  for (const [what, make] of GOOD)
    it(`takes a key: ${what}`, () => {
      const [key] = jwtFromMessages([message(make())]);
      assert.equal(key?.keyId, 'k');
    });

  for (const [what, make] of UNFIT)
    it(`refuses a key that verifies no JWT-SVID, and names it: ${what}`, () => {
      const keys = [message(ec('P-256')), message(make())];
      assert.throws(() => jwtFromMessages(keys), {
        code: 'INVALID_ARGUMENT',
        message: /jwt_authorities\[1\]: public_key must be/,
      });
    });
});

describe('jwtFromMessages', () => {
  it('refuses bytes after the key, and a compressed point', () => {
    const spki = spkiOf(ec('P-256'));
    const head = Buffer.from('3039301306072a8648ce3d020106082a8648ce3d030107032200', 'hex');
    const point = Buffer.concat([Buffer.of(2 + ((spki.at(-1) ?? 0) % 2)), spki.subarray(-64, -32)]);
    for (const publicKey of [Buffer.concat([spki, Buffer.of(0)]), Buffer.concat([head, point])])
      assert.throws(() => jwtFromMessages([{ ...message(ec('P-256')), publicKey }]), {
        code: 'INVALID_ARGUMENT',
        message: /jwt_authorities\[0\]: public_key/,
      });
  });
});

describe('keptBundleFromMessage', () => {
  it('leaves out what an earlier version took, so that the rest can be shown', () => {
    const jwtAuthorities = [...UNFIT, ...GOOD.slice(0, 1)].map(([, make]) => message(make()));
    const kept = create(BundleSchema, { trustDomain: 'a.org', jwtAuthorities });
    assert.throws(() => bundleFromMessage(kept), { code: 'INVALID_ARGUMENT' });
    const bundle = keptBundleFromMessage(kept);
    assert.equal(bundle.jwtAuthorities.length, 1);
    assert.equal(JSON.parse(bundleToJwks(bundle, 'jwt-svid')).keys.length, 1);
  });
});

describe('bundleFromJwks', () => {
  it('passes over keys that verify no JWT-SVID', () => {
    const keys = [ec('secp256k1'), rsa(1024), ec('P-521'), rsa(2048)].map((key, at) => ({
      ...{ use: 'jwt-svid', kid: String(at) },
      ...key.export({ format: 'jwk' }),
    }));
    const bundle = bundleFromJwks(parseTrustDomain('a.org'), JSON.stringify({ keys }));
    assert.deepEqual(
      bundle.jwtAuthorities.map(({ keyId }) => keyId),
      ['2', '3'],
    );
  });
});
