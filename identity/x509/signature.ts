import { type KeyObject, sign, verify } from 'node:crypto';

/** A signature algorithm of certificates and CSRs. */
export interface SignatureAlgorithm {
  /** The AlgorithmIdentifier, DER. */
  readonly identifier: Uint8Array;
  readonly keyType: 'ec' | 'ed25519' | 'rsa';
  readonly hash: 'sha256' | 'sha384' | 'sha512' | null;
}

function algorithm(
  keyType: SignatureAlgorithm['keyType'],
  hash: SignatureAlgorithm['hash'],
  identifier: string,
): [string, SignatureAlgorithm] {
  return [identifier, { identifier: Buffer.from(identifier, 'hex'), keyType, hash }];
}

/** By the whole AlgorithmIdentifier in hex. What is not here is not trusted: SHA-1, PSS, DSA... */
const ALGORITHMS: ReadonlyMap<string, SignatureAlgorithm> = new Map([
  algorithm('ec', 'sha256', '300a06082a8648ce3d040302'),
  algorithm('ec', 'sha384', '300a06082a8648ce3d040303'),
  algorithm('ec', 'sha512', '300a06082a8648ce3d040304'),
  algorithm('ed25519', null, '300506032b6570'),
  algorithm('rsa', 'sha256', '300d06092a864886f70d01010b0500'),
  algorithm('rsa', 'sha384', '300d06092a864886f70d01010c0500'),
  algorithm('rsa', 'sha512', '300d06092a864886f70d01010d0500'),
]);

/** The algorithm an AlgorithmIdentifier names; undefined if it is not one we trust. */
export function signatureAlgorithm(identifier: Uint8Array): SignatureAlgorithm | undefined {
  return ALGORITHMS.get(Buffer.from(identifier).toString('hex'));
}

const CURVE_HASHES: ReadonlyMap<string, SignatureAlgorithm['hash']> = new Map([
  ['secp384r1', 'sha384'],
  ['secp521r1', 'sha512'],
]);

/** The algorithm we sign with by this key. */
export function algorithmFor(key: KeyObject): SignatureAlgorithm {
  const hash = CURVE_HASHES.get(key.asymmetricKeyDetails?.namedCurve ?? '') ?? 'sha256';
  for (const candidate of ALGORITHMS.values()) {
    const fits = candidate.keyType === key.asymmetricKeyType;
    if (fits && (candidate.hash === null || candidate.hash === hash)) return candidate;
  }
  throw new Error(`no signature algorithm for a key of type ${key.asymmetricKeyType}`);
}

/** Whether `signature` over `signed` is by `key`, and the key of the algorithm's own type. */
export function isSignedBy(
  key: KeyObject,
  { algorithm, signed, signature }: Signed & { readonly algorithm: SignatureAlgorithm },
): boolean {
  if (key.asymmetricKeyType !== algorithm.keyType) return false;
  return verify(algorithm.hash, signed, key, signature);
}

/** Bytes, and the signature over them. */
export interface Signed {
  readonly signed: Uint8Array;
  readonly signature: Uint8Array;
}

export function signWith(
  key: KeyObject,
  algorithm: SignatureAlgorithm,
  bytes: Uint8Array,
): Uint8Array {
  return sign(algorithm.hash, bytes, key);
}
