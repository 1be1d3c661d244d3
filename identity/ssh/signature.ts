import { type KeyObject, sign, verify } from 'node:crypto';
import type { Signer } from '../signer.ts';
import { DerReader, readUnsigned, TAG } from '../x509/der.ts';
import { type NistCurve, nistCurve, sshKeyType } from './public-key.ts';
import { SshReader, SshWriter, sshInvalid } from './wire.ts';

/** RSA over SHA-1, `ssh-rsa`, is neither made nor verified. */
export type RsaAlgorithm = 'rsa-sha2-256' | 'rsa-sha2-512';

const RSA_HASHES: ReadonlyMap<string, 'sha256' | 'sha512'> = new Map([
  ['rsa-sha2-256', 'sha256'],
  ['rsa-sha2-512', 'sha512'],
]);

/** Whether a name is one of the algorithms that an RSA key signs with here. */
export function isRsaAlgorithm(name: string): boolean {
  return RSA_HASHES.has(name);
}

/** RSA of 8192 bits has the longest one. */
const LONGEST_SIGNATURE = 1024;

/**
 * The algorithm's name and the signature, as SSH writes them.
 * @throws Fault SSH_INVALID if SSH has no such key
 *
 * Source: RFC 8709 6, RFC 5656 3.1.2, RFC 8332 3.
 */
export function signSsh(
  key: KeyObject,
  data: Uint8Array,
  rsa: RsaAlgorithm = 'rsa-sha2-512',
): Buffer {
  const type = sshKeyType(key);
  const curve = nistCurve(type);
  if (type === 'ssh-rsa') {
    const hash = RSA_HASHES.get(rsa);
    if (hash === undefined) throw sshInvalid('SSH signature: RSA algorithm not allowed');
    return signature(rsa, sign(hash, data, key));
  }
  if (curve === undefined) return signature(type, sign(null, data, key));
  const numbers = sign(curve.hash, data, { key, dsaEncoding: 'ieee-p1363' });
  const [r, s] = [numbers.subarray(0, curve.size), numbers.subarray(curve.size)];
  return signature(type, new SshWriter().mpint(r).mpint(s).finish());
}

/**
 * As `signSsh` with `rsa-sha2-512`, with a key that may be elsewhere.
 * @throws Fault SSH_INVALID if SSH has no such key
 */
export async function signSshBy(signer: Signer, data: Uint8Array): Promise<Buffer> {
  const type = sshKeyType(signer.publicKey);
  const curve = nistCurve(type);
  if (type === 'ssh-rsa')
    return signature('rsa-sha2-512', await signer.sign(data, { hash: 'sha512' }));
  if (curve === undefined) return signature(type, await signer.sign(data, { hash: null }));
  const numbers = DerReader.inside(
    DerReader.only(await signer.sign(data, { hash: curve.hash }), TAG.sequence),
  );
  const writer = new SshWriter();
  writer.mpint(readUnsigned(numbers.take(TAG.integer)));
  writer.mpint(readUnsigned(numbers.take(TAG.integer)));
  return signature(type, writer.finish());
}

/**
 * Whether the signature is over `data`, by `key`, with an algorithm of the key's own type.
 * @param signature untrusted
 */
export function verifySsh(key: KeyObject, data: Uint8Array, signature: Uint8Array): boolean {
  try {
    const { algorithm, bytes } = parseSignature(signature);
    return isSignedBy(key, { algorithm, bytes, data });
  } catch {
    // Only what parses can be a signature; the library may throw on one that is none, too.
    return false;
  }
}

/**
 * The algorithm that a signature says it is made with.
 * @param signature untrusted
 * @throws Fault SSH_INVALID
 */
export function signatureAlgorithm(signature: Uint8Array): string {
  return parseSignature(signature).algorithm;
}

interface Parsed {
  readonly algorithm: string;
  readonly bytes: Buffer;
}

function parseSignature(signature: Uint8Array): Parsed {
  const reader = new SshReader(signature, 'SSH signature');
  const algorithm = reader.name();
  const bytes = reader.string(LONGEST_SIGNATURE);
  reader.end();
  return { algorithm, bytes };
}

function isSignedBy(
  key: KeyObject,
  { algorithm, bytes, data }: Parsed & { readonly data: Uint8Array },
): boolean {
  const type = sshKeyType(key);
  if (type === 'ssh-rsa') {
    const hash = RSA_HASHES.get(algorithm);
    return hash !== undefined && verify(hash, data, key, bytes);
  }
  if (algorithm !== type) return false;
  const curve = nistCurve(type);
  if (curve === undefined) return bytes.length === 64 && verify(null, data, key, bytes);
  return verify(curve.hash, data, { key, dsaEncoding: 'ieee-p1363' }, fixedWidth(bytes, curve));
}

/** The two numbers at the curve's own width. */
function fixedWidth(bytes: Buffer, { size }: NistCurve): Buffer {
  const reader = new SshReader(bytes, 'SSH signature');
  const [r, s] = [reader.mpint(size), reader.mpint(size)];
  reader.end();
  const numbers = Buffer.alloc(2 * size);
  r.copy(numbers, size - r.length);
  s.copy(numbers, 2 * size - s.length);
  return numbers;
}

function signature(algorithm: string, bytes: Uint8Array): Buffer {
  return new SshWriter().string(algorithm).string(bytes).finish();
}
