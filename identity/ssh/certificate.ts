/**
 * User and host certificates. What is parsed here decides who someone is, so that one certificate has
 * one encoding: what is not exactly what we would have written is refused.
 *
 * Source: OpenSSH, PROTOCOL.certkeys. Stricter: reserved is empty, lists are bounded, text is free of
 * control characters, a validity has an end.
 */
import { type KeyObject, randomBytes } from 'node:crypto';
import type { Signer } from '../signer.ts';
import { boundOptions, readOptions, writeOptions } from './certificate-options.ts';
import { refuseControls } from './plain-text.ts';
import {
  blobOfLine,
  blobType,
  CERTIFICATE_SUFFIX,
  encodePublicKey,
  knownKeyType,
  MAXIMUM_BLOB_BYTES,
  parsePublicKey,
  readKeyFields,
  type SshKeyType,
  withoutSuffix,
} from './public-key.ts';
import { signSsh, signSshBy, verifySsh } from './signature.ts';
import { checkSourceAddress } from './source-address.ts';
import { SshReader, SshWriter, sshInvalid } from './wire.ts';

/** What a certificate says, and its CA's signature is over. */
export interface SshCertificate {
  /** The whole of it, in memory of its own. */
  readonly blob: Buffer;
  /** `ssh-ed25519-cert-v01@openssh.com`; of an RSA key `ssh-rsa-cert-v01@openssh.com`. */
  readonly algorithm: string;
  readonly keyType: SshKeyType;
  readonly key: KeyObject;
  /** The key without the certificate, as a blob. */
  readonly publicKey: Buffer;
  readonly serial: bigint;
  readonly type: 'user' | 'host';
  readonly keyId: string;
  /** None means every principal to OpenSSH, and no one to us: verifySshCertificate refuses it. */
  readonly principals: readonly string[];
  readonly validAfter: Date;
  /** The first instant at which it is valid no more. */
  readonly validBefore: Date;
  /** '' for a flag. */
  readonly criticalOptions: ReadonlyMap<string, string>;
  readonly extensions: ReadonlyMap<string, string>;
  /** The CA's key, as a blob. */
  readonly authority: Buffer;
}

/** What a certificate is to say. */
export interface SshCertificateInit {
  readonly type: 'user' | 'host';
  /** A plain key's blob, untrusted. */
  readonly publicKey: Uint8Array;
  readonly serial: bigint;
  readonly keyId: string;
  readonly principals: readonly string[];
  /** Parts of a second are cut off. */
  readonly validAfter: Date;
  readonly validBefore: Date;
  /** '' for a flag. */
  readonly criticalOptions?: Readonly<Record<string, string>>;
  readonly extensions?: readonly string[];
}

const TYPES = { user: 1, host: 2 } as const;
const NONCE_BYTES = { least: 16, made: 32, most: 64 } as const;
const LONGEST_KEY_ID = 4096;
const LONGEST_PRINCIPAL = 2048;
const LONGEST_PRINCIPALS = 32_768;

/** As OpenSSH's. */
const MOST_PRINCIPALS = 256;

/** The last second of the year 9999. */
const LAST_SECOND = 253_402_300_799n;

/**
 * A certificate whose own CA's signature verifies. Whether that CA is trusted, and the certificate
 * good for anything now, verifySshCertificate says.
 * @param blob untrusted, at most 64 KiB
 * @throws Fault SSH_INVALID
 */
export function parseSshCertificate(blob: Uint8Array): SshCertificate {
  if (blob.length > MAXIMUM_BLOB_BYTES) {
    throw sshInvalid(`SSH certificate: longer than ${MAXIMUM_BLOB_BYTES} bytes`);
  }
  const bytes = Buffer.from(blob);
  const reader = new SshReader(bytes, 'SSH certificate');
  const subject = readSubject(reader, bytes);
  const statement = readStatement(reader);
  const authority = reader.string();
  const authorityKey = parsePublicKey(authority);
  const signed = bytes.subarray(0, reader.offset);
  const signature = reader.string();
  reader.end();
  if (!verifySsh(authorityKey, signed, signature)) {
    throw sshInvalid('SSH certificate: signature of its authority does not verify');
  }
  return { blob: bytes, ...subject, ...statement, authority };
}

/**
 * Whether the blob says it is a certificate, well-formed or not.
 * @param blob untrusted
 */
export function isSshCertificate(blob: Uint8Array): boolean {
  try {
    return blobType(blob).endsWith(CERTIFICATE_SUFFIX);
  } catch {
    return false;
  }
}

/**
 * The blob of a `-cert.pub` file's line.
 * @param line untrusted
 * @throws Fault SSH_INVALID
 */
export function parseCertificateLine(line: string): Buffer {
  const blob = blobOfLine(line);
  parseSshCertificate(blob);
  return blob;
}

/**
 * A new certificate, which parseSshCertificate takes.
 * @param authority the CA's private key
 * @throws Fault SSH_INVALID
 */
export function signSshCertificate(init: SshCertificateInit, authority: KeyObject): Buffer {
  const signed = certificateBody(init, authority);
  return signedCertificate(signed, signSsh(authority, signed));
}

/** As `signSshCertificate`, with a key that may be elsewhere. */
export async function signSshCertificateBy(
  init: SshCertificateInit,
  authority: Signer,
): Promise<Buffer> {
  const signed = certificateBody(init, authority.publicKey);
  return signedCertificate(signed, await signSshBy(authority, signed));
}

function certificateBody(init: SshCertificateInit, authority: KeyObject): Buffer {
  const type = blobType(init.publicKey);
  parsePublicKey(init.publicKey);
  if (init.principals.length === 0) throw sshInvalid('SSH certificate: no principals');
  const writer = new SshWriter()
    .string(`${type}${CERTIFICATE_SUFFIX}`)
    .string(randomBytes(NONCE_BYTES.made))
    .raw(Buffer.from(init.publicKey).subarray(4 + type.length));
  writeStatement(writer, init);
  return writer.string(encodePublicKey(authority)).finish();
}

function signedCertificate(signed: Uint8Array, signature: Uint8Array): Buffer {
  const blob = new SshWriter().raw(signed).string(signature).finish();
  if (blob.length > MAXIMUM_BLOB_BYTES) throw sshInvalid('SSH certificate: too long');
  return blob;
}

type Subject = Pick<SshCertificate, 'algorithm' | 'keyType' | 'key' | 'publicKey'>;

function readSubject(reader: SshReader, bytes: Buffer): Subject {
  const algorithm = reader.name();
  const keyType = knownKeyType(withoutSuffix(algorithm));
  if (keyType === undefined) throw sshInvalid('SSH certificate: type not allowed');
  if (algorithm === keyType) throw sshInvalid('SSH certificate: a plain key without a certificate');
  if (reader.string(NONCE_BYTES.most).length < NONCE_BYTES.least) {
    throw sshInvalid(`SSH certificate: nonce shorter than ${NONCE_BYTES.least} bytes`);
  }
  const from = reader.offset;
  const key = readKeyFields(reader, keyType);
  const fields = bytes.subarray(from, reader.offset);
  return {
    algorithm,
    keyType,
    key,
    publicKey: new SshWriter().string(keyType).raw(fields).finish(),
  };
}

type Statement = Omit<SshCertificate, keyof Subject | 'blob' | 'authority'>;

function readStatement(reader: SshReader): Statement {
  const serial = reader.u64();
  const type = readType(reader.u32());
  const keyId = reader.text(LONGEST_KEY_ID);
  refuseControls(keyId, 'SSH certificate: key ID');
  const principals = readPrincipals(reader.string(LONGEST_PRINCIPALS));
  const [validAfter, validBefore] = [readTime(reader.u64()), readTime(reader.u64())];
  checkValidity(validAfter, validBefore);
  const criticalOptions = readOptions(boundOptions(reader.string()));
  const extensions = readOptions(boundOptions(reader.string()));
  if (reader.string().length > 0) throw sshInvalid('SSH certificate: reserved field not empty');
  return {
    serial,
    type,
    keyId,
    principals,
    validAfter,
    validBefore,
    criticalOptions,
    extensions,
  };
}

function writeStatement(writer: SshWriter, init: SshCertificateInit): void {
  if (init.serial < 0n || init.serial >= 1n << 64n) {
    throw sshInvalid('SSH certificate: serial not of 64 bits');
  }
  if (Buffer.byteLength(init.keyId) > LONGEST_KEY_ID) {
    throw sshInvalid(`SSH certificate: key ID longer than ${LONGEST_KEY_ID} bytes`);
  }
  refuseControls(init.keyId, 'SSH certificate: key ID');
  const [after, before] = [unixSeconds(init.validAfter), unixSeconds(init.validBefore)];
  checkValidity(readTime(after), readTime(before));
  const { criticalOptions = {} } = init;
  const addresses = criticalOptions['source-address'];
  if (addresses !== undefined) checkSourceAddress(addresses);
  const extensions = Object.fromEntries((init.extensions ?? []).map((name) => [name, '']));
  writer
    .u64(init.serial)
    .u32(TYPES[init.type])
    .string(init.keyId)
    .string(writePrincipals(init.principals))
    .u64(after)
    .u64(before)
    .string(writeOptions(criticalOptions))
    .string(writeOptions(extensions))
    .string('');
}

function readType(number: number): 'user' | 'host' {
  if (number === TYPES.user) return 'user';
  if (number === TYPES.host) return 'host';
  throw sshInvalid('SSH certificate: neither of a user nor of a host');
}

function readPrincipals(bytes: Buffer): string[] {
  const reader = new SshReader(bytes, 'SSH certificate');
  const principals: string[] = [];
  while (reader.rest > 0 && principals.length <= MOST_PRINCIPALS) {
    principals.push(reader.text(LONGEST_PRINCIPAL));
  }
  checkPrincipals(principals);
  return principals;
}

function writePrincipals(principals: readonly string[]): Buffer {
  checkPrincipals(principals);
  const writer = new SshWriter();
  for (const principal of principals) writer.string(principal);
  const bytes = writer.finish();
  if (bytes.length > LONGEST_PRINCIPALS) throw sshInvalid('SSH certificate: principals too long');
  return bytes;
}

function checkPrincipals(principals: readonly string[]): void {
  if (principals.length > MOST_PRINCIPALS) {
    throw sshInvalid(`SSH certificate: more than ${MOST_PRINCIPALS} principals`);
  }
  if (new Set(principals).size < principals.length) {
    throw sshInvalid('SSH certificate: a principal twice');
  }
  for (const principal of principals) {
    if (principal === '') throw sshInvalid('SSH certificate: empty principal');
    if (Buffer.byteLength(principal) > LONGEST_PRINCIPAL) {
      throw sshInvalid(`SSH certificate: principal longer than ${LONGEST_PRINCIPAL} bytes`);
    }
    refuseControls(principal, 'SSH certificate: principal');
  }
}

/** OpenSSH's "forever" is refused like any end beyond the year 9999. */
function readTime(seconds: bigint): Date {
  if (seconds > LAST_SECOND) throw sshInvalid('SSH certificate: validity beyond the year 9999');
  return new Date(Number(seconds) * 1000);
}

function unixSeconds(time: Date): bigint {
  const seconds = Math.floor(time.getTime() / 1000);
  if (!(seconds >= 0)) throw sshInvalid('SSH certificate: validity before 1970, or no time');
  return BigInt(seconds);
}

function checkValidity(after: Date, before: Date): void {
  if (after >= before) throw sshInvalid('SSH certificate: validity ends before it begins');
}
