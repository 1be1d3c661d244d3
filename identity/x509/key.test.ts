import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { localhostCertificate } from '../../test/fixtures/localhost-tls.ts';
import { DerError, der, derInteger, derOctetBits, TAG } from './der.ts';
import {
  generateKey,
  importPublicKey,
  type KeyType,
  publicKeyFromSpki,
  spkiOf,
  subjectKeyIdOf,
} from './key.ts';

const spki = (key: KeyObject) => key.export({ type: 'spki', format: 'der' });

const rsaIdentifier = Buffer.from('300d06092a864886f70d0101010500', 'hex');

function rsaSpki(modulus: Buffer, exponent: Buffer): Buffer {
  const numbers = der(TAG.sequence, derInteger(modulus), derInteger(exponent));
  return der(TAG.sequence, rsaIdentifier, derOctetBits(numbers));
}

describe('generateKey', () => {
  const types: Record<KeyType, string> = {
    'ec-p256': 'ec prime256v1',
    'ec-p384': 'ec secp384r1',
    ed25519: 'ed25519 ',
    'rsa-2048': 'rsa 2048',
    'rsa-4096': 'rsa 4096',
  };
  for (const type of Object.keys(types) as KeyType[]) {
    it(`makes a private ${type} key that publicKeyFromSpki admits`, async () => {
      const key = await generateKey(type);
      const { namedCurve, modulusLength } = key.asymmetricKeyDetails ?? {};
      assert.equal(key.type, 'private');
      assert.equal(`${key.asymmetricKeyType} ${namedCurve ?? modulusLength ?? ''}`, types[type]);
      assert.ok(publicKeyFromSpki(spkiOf(key)).equals(createPublicKey(key)));
      assert.ok((await importPublicKey(spkiOf(key))).equals(createPublicKey(key)));
    });
  }
});

describe('publicKeyFromSpki', () => {
  it('reads P-521, which Writ does not make and the roots of others have', () => {
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-521' });
    assert.ok(publicKeyFromSpki(spki(publicKey)).equals(publicKey));
  });

  const ec = spki(generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey);
  const refused = {
    'another curve': spki(generateKeyPairSync('ec', { namedCurve: 'brainpoolP256r1' }).publicKey),
    'the curve of Bitcoin': spki(generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).publicKey),
    'a curve written out': generateKeyPairSync('ec', {
      namedCurve: 'P-256',
      paramEncoding: 'explicit',
    }).publicKey.export({ type: 'spki', format: 'der' }),
    'a key for agreement': spki(generateKeyPairSync('x25519').publicKey),
    Ed448: spki(generateKeyPairSync('ed448').publicKey),
    'RSA for PSS alone': spki(generateKeyPairSync('rsa-pss', { modulusLength: 2048 }).publicKey),
    'RSA of 1024 bits': spki(generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey),
    'RSA of 2047 bits': rsaSpki(Buffer.alloc(256, 0x7f), Buffer.of(1, 0, 1)),
    'RSA of 8193 bits': rsaSpki(
      Buffer.concat([Buffer.of(1), Buffer.alloc(1024, 0xff)]),
      Buffer.of(1, 0, 1),
    ),
    'RSA with exponent 3': rsaSpki(Buffer.alloc(256, 0xff), Buffer.of(3)),
    'RSA with an even exponent': rsaSpki(Buffer.alloc(256, 0xff), Buffer.of(1, 0, 2)),
    'RSA with a huge exponent': rsaSpki(Buffer.alloc(256, 0xff), Buffer.alloc(256, 0xfd)),
    'a point off the curve': Buffer.concat([ec.subarray(0, -1), Buffer.of((ec.at(-1) ?? 0) ^ 1)]),
    'a compressed point': der(
      TAG.sequence,
      ec.subarray(2, 23),
      derOctetBits(Buffer.concat([Buffer.of(2), ec.subarray(27, 59)])),
    ),
    'bytes after the key': Buffer.concat([ec, Buffer.of(0)]),
    'no DER': Buffer.from('hello'),
    nothing: Buffer.alloc(0),
  };
  for (const [what, bytes] of Object.entries(refused)) {
    it(`refuses ${what}`, async () => {
      assert.throws(() => publicKeyFromSpki(bytes), DerError);
      await assert.rejects(importPublicKey(bytes), DerError);
    });
  }
});

describe('subjectKeyIdOf', () => {
  it('agrees with what OpenSSL wrote into a certificate', () => {
    const key = new X509Certificate(localhostCertificate).publicKey;
    assert.equal(
      subjectKeyIdOf(spki(key)).toString('hex'),
      '73cbc8cea3384d9f18257ea8f68e2e1af5588173',
    );
  });
});
