import type { SshCertificate } from './certificate.ts';
import { refuseControls } from './plain-text.ts';
import { CERTIFICATE_SUFFIX, MAXIMUM_BLOB_BYTES, withoutSuffix } from './public-key.ts';
import { isRsaAlgorithm, signatureAlgorithm, verifySsh } from './signature.ts';
import { SshReader, sshInvalid } from './wire.ts';

const METHODS = ['publickey', 'publickey-hostbound-v00@openssh.com'] as const;

/** What a client signs to log in. Its bytes are in memory of their own. */
export interface UserAuthRequest {
  readonly sessionId: Buffer;
  readonly user: string;
  readonly method: (typeof METHODS)[number];
  readonly algorithm: string;
  /** A key's or a certificate's blob; not looked at. */
  readonly publicKey: Buffer;
  /** The server's key as the client saw it, where the method binds to it. */
  readonly hostKey: Buffer | undefined;
}

/** The hashes of key exchanges: SHA-1, which only others may still use, to SHA-512. */
const SESSION_ID_BYTES = { least: 20, most: 64 } as const;
const SSH_MSG_USERAUTH_REQUEST = 50;
const LONGEST_USER = 1024;

/** Two blobs and the names. */
const LONGEST_REQUEST = 2 * MAXIMUM_BLOB_BYTES + 4096;

/**
 * @param signedData untrusted
 * @throws Fault SSH_INVALID
 *
 * Source: RFC 4252 7; OpenSSH, PROTOCOL 3.1 (hostbound).
 */
export function parseUserAuthData(signedData: Uint8Array): UserAuthRequest {
  if (signedData.length > LONGEST_REQUEST) throw invalid('too long');
  const reader = new SshReader(Buffer.from(signedData), 'SSH user authentication');
  const sessionId = reader.string(SESSION_ID_BYTES.most);
  if (sessionId.length < SESSION_ID_BYTES.least) throw invalid('session ID too short');
  if (reader.u8() !== SSH_MSG_USERAUTH_REQUEST) throw invalid('not a request to log in');
  const user = reader.text(LONGEST_USER);
  if (user === '') throw invalid('no user');
  refuseControls(user, 'SSH user authentication: user');
  if (reader.name() !== 'ssh-connection') throw invalid('not for a connection');
  const name = reader.name();
  const method = METHODS.find((one) => one === name);
  if (method === undefined) throw invalid('not by public key');
  if (!reader.boolean()) throw invalid('not to be signed');
  const algorithm = reader.name();
  const publicKey = reader.string(MAXIMUM_BLOB_BYTES);
  const hostKey = method === 'publickey' ? undefined : reader.string(MAXIMUM_BLOB_BYTES);
  reader.end();
  return { sessionId, user, method, algorithm, publicKey, hostKey };
}

/**
 * Whether the holder of the certificate's key signed this request to log in with it, with an
 * algorithm that the key has.
 * @param certificate verified
 * @param request what parseUserAuthData read in `signedData`
 * @param signature untrusted
 */
export function verifyUserAuth(
  certificate: SshCertificate,
  request: UserAuthRequest,
  signedData: Uint8Array,
  signature: Uint8Array,
): boolean {
  const { algorithm, publicKey } = request;
  if (!algorithm.endsWith(CERTIFICATE_SUFFIX) || !certificate.blob.equals(publicKey)) return false;
  const plain = withoutSuffix(algorithm);
  const fits =
    certificate.keyType === 'ssh-rsa' ? isRsaAlgorithm(plain) : plain === certificate.keyType;
  return (
    fits && algorithmOf(signature) === plain && verifySsh(certificate.key, signedData, signature)
  );
}

/** Undefined for what is no signature. */
function algorithmOf(signature: Uint8Array): string | undefined {
  try {
    return signatureAlgorithm(signature);
  } catch {
    return undefined;
  }
}

function invalid(message: string): Error {
  return sshInvalid(`SSH user authentication: ${message}`);
}
