/**
 * What binds a login to the TLS connection that carries it: a hash of the server's certificate. Who
 * sits in between with a certificate of its own, however it came by it, cannot pass the login on.
 *
 * Source: RFC 5929 section 4 (tls-server-end-point).
 */
import { createHash } from 'node:crypto';
import { DerError, DerReader, TAG } from '../../../../../identity/x509/der.ts';

/** By the DER of the certificate's signature algorithm; MD5 and SHA-1 count as SHA-256. */
const HASHES: ReadonlyMap<string, string> = new Map([
  // PKCS #1: md5, sha1, sha256, sha384, sha512, sha224 WithRSAEncryption.
  ['2a864886f70d010104', 'sha256'],
  ['2a864886f70d010105', 'sha256'],
  ['2a864886f70d01010b', 'sha256'],
  ['2a864886f70d01010c', 'sha384'],
  ['2a864886f70d01010d', 'sha512'],
  ['2a864886f70d01010e', 'sha224'],
  // X9.62: ecdsa-with-SHA1, then SHA224 to SHA512.
  ['2a8648ce3d0401', 'sha256'],
  ['2a8648ce3d040301', 'sha224'],
  ['2a8648ce3d040302', 'sha256'],
  ['2a8648ce3d040303', 'sha384'],
  ['2a8648ce3d040304', 'sha512'],
]);

/**
 * @param certificate DER
 * @returns undefined where the binding is not defined: the signature names no hash of its own, as
 * Ed25519 and RSASSA-PSS do not
 */
export function serverEndPoint(certificate: Uint8Array): Buffer | undefined {
  const hash = HASHES.get(signatureAlgorithm(certificate));
  return hash === undefined ? undefined : createHash(hash).update(certificate).digest();
}

function signatureAlgorithm(certificate: Uint8Array): string {
  try {
    const parts = DerReader.inside(DerReader.only(certificate, TAG.sequence));
    parts.take(TAG.sequence);
    return parts.sequence().take(TAG.oid).content.toString('hex');
  } catch (error) {
    if (error instanceof DerError) return '';
    throw error;
  }
}
