import {
  createPublicKey,
  hash as digestOf,
  generateKeyPair,
  type JsonWebKey,
  KeyObject,
  webcrypto,
} from 'node:crypto';
import { promisify } from 'node:util';
import { detachedKey } from '../detached-key.ts';
import { DerError, DerReader, readOctetBits, readUnsigned, TAG } from './der.ts';

/** What a key that Writ makes can be. */
export type KeyType = 'ec-p256' | 'ec-p384' | 'ed25519' | 'rsa-2048' | 'rsa-4096';

const generate = promisify(generateKeyPair);

/** A new private key. */
export async function generateKey(type: KeyType): Promise<KeyObject> {
  return detachedKey((await generatePair(type)).privateKey);
}

function generatePair(type: KeyType): Promise<{ readonly privateKey: KeyObject }> {
  switch (type) {
    case 'ec-p256':
      return generate('ec', { namedCurve: 'P-256' });
    case 'ec-p384':
      return generate('ec', { namedCurve: 'P-384' });
    case 'ed25519':
      return generate('ed25519');
    case 'rsa-2048':
      return generate('rsa', { modulusLength: 2048 });
    case 'rsa-4096':
      return generate('rsa', { modulusLength: 4096 });
  }
}

/** What a key is, e.g. `ec-p256` or `rsa-3072`; '' for one that Writ never makes and never takes. */
export function keyTypeName({ asymmetricKeyType, asymmetricKeyDetails = {} }: KeyObject): string {
  const { namedCurve, modulusLength } = asymmetricKeyDetails;
  if (asymmetricKeyType === 'rsa') return `rsa-${modulusLength}`;
  if (asymmetricKeyType === 'ed25519') return 'ed25519';
  return CURVE_NAMES.get(namedCurve ?? '') ?? '';
}

const CURVE_NAMES: ReadonlyMap<string, string> = new Map([
  ['prime256v1', 'ec-p256'],
  ['secp384r1', 'ec-p384'],
  ['secp521r1', 'ec-p521'],
]);

/** The SubjectPublicKeyInfo of a key, public or private. */
export function spkiOf(key: KeyObject): Buffer {
  const publicKey = key.type === 'private' ? createPublicKey(key) : key;
  return publicKey.export({ type: 'spki', format: 'der' });
}

/** SHA-1 over the public key's bits. Source: RFC 5280 4.2.1.2 (1). */
export function subjectKeyIdOf(spki: Uint8Array): Buffer {
  return digestOf('sha1', openSpki(spki).bits, 'buffer');
}

interface Curve {
  readonly name: 'P-256' | 'P-384' | 'P-521';
  /** Bytes of a coordinate. */
  readonly size: number;
}

/** By the whole AlgorithmIdentifier, so that no parameter, such as a curve of one's own, slips in. */
const CURVES: ReadonlyMap<string, Curve> = new Map<string, Curve>([
  ['301306072a8648ce3d020106082a8648ce3d030107', { name: 'P-256', size: 32 }],
  ['301006072a8648ce3d020106052b81040022', { name: 'P-384', size: 48 }],
  ['301006072a8648ce3d020106052b81040023', { name: 'P-521', size: 66 }],
]);

type KeyReader = (bits: Buffer, spki: Uint8Array) => KeyObject;

/** In the same way. */
const KEY_READERS: ReadonlyMap<string, KeyReader> = new Map<string, KeyReader>([
  ['300506032b6570', ed25519Key],
  ['300d06092a864886f70d0101010500', rsaKey],
]);

/**
 * The key of a SubjectPublicKeyInfo, if it is P-256, P-384, P-521, Ed25519, or RSA of 2048 to 8192 bits.
 * @param spki untrusted
 * @throws DerError for any other key, and for a point that is not on its curve
 */
export function publicKeyFromSpki(spki: Uint8Array): KeyObject {
  const { algorithm, bits } = openSpki(spki);
  const identifier = algorithm.toString('hex');
  const curve = CURVES.get(identifier);
  if (curve !== undefined) return ecKey(curve, bits);
  const read = KEY_READERS.get(identifier);
  if (read === undefined) throw new DerError('key type not allowed');
  return read(bits, spki);
}

/**
 * The same for a key that verifies one signature and is dropped: an elliptic one costs a third less,
 * for it comes in the form that the first verification would have to make.
 */
export async function importPublicKey(spki: Uint8Array): Promise<KeyObject> {
  const { algorithm, bits } = openSpki(spki);
  const curve = CURVES.get(algorithm.toString('hex'));
  if (curve === undefined) return publicKeyFromSpki(spki);
  requireUncompressed(bits, curve);
  const kind = { name: 'ECDSA', namedCurve: curve.name };
  try {
    return KeyObject.from(await webcrypto.subtle.importKey('raw', bits, kind, true, ['verify']));
  } catch (error) {
    throw new DerError('public key not valid', { cause: error });
  }
}

function openSpki(spki: Uint8Array): { algorithm: Buffer; bits: Buffer } {
  const parts = DerReader.inside(DerReader.only(spki, TAG.sequence));
  const algorithm = parts.take(TAG.sequence).raw;
  const bits = readOctetBits(parts.take(TAG.bitString));
  parts.end();
  return { algorithm, bits };
}

// A key made from a JWK costs half the CPU of one made from DER.
function ecKey(curve: Curve, bits: Buffer): KeyObject {
  requireUncompressed(bits, curve);
  const { name, size } = curve;
  const x = bits.toString('base64url', 1, 1 + size);
  return fromJwk({ kty: 'EC', crv: name, x, y: bits.toString('base64url', 1 + size) });
}

function requireUncompressed(bits: Buffer, { size }: Curve): void {
  if (bits.length !== 1 + 2 * size || bits[0] !== 4) throw new DerError('point not uncompressed');
}

function ed25519Key(bits: Buffer): KeyObject {
  if (bits.length !== 32) throw new DerError('Ed25519 key not 32 bytes');
  return fromJwk({ kty: 'OKP', crv: 'Ed25519', x: bits.toString('base64url') });
}

const RSA_BITS = { least: 2048, most: 8192 } as const;

function rsaKey(bits: Buffer, spki: Uint8Array): KeyObject {
  const numbers = DerReader.inside(DerReader.only(bits, TAG.sequence));
  const modulus = readUnsigned(numbers.take(TAG.integer));
  const exponent = readUnsigned(numbers.take(TAG.integer));
  numbers.end();
  const size = modulus.length * 8 - Math.clz32(modulus[0] ?? 0) + 24;
  if (size < RSA_BITS.least || size > RSA_BITS.most) throw new DerError('RSA size not allowed');
  // A large exponent makes each verification as dear as a signature; a tiny one is weak.
  const value = exponent.length <= 4 ? exponent.readUIntBE(0, exponent.length) : 0;
  if (value < 65_537 || value % 2 === 0) throw new DerError('RSA exponent not allowed');
  return createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
}

function fromJwk(key: JsonWebKey): KeyObject {
  try {
    return createPublicKey({ key, format: 'jwk' });
  } catch (error) {
    throw new DerError('public key not valid', { cause: error });
  }
}
