import type { KeyObject } from 'node:crypto';
import { Fault } from '../../runtime/fault.ts';
import { DerError, DerReader, readOctetBits, readTime, readUnsigned, TAG } from './der.ts';
import {
  type BasicConstraints,
  type Extension,
  type KeyUsage,
  OID,
  readAltNames,
  readAuthorityKeyId,
  readBasicConstraints,
  readExtensions,
  readExtKeyUsage,
  readKeyUsage,
  readSubjectKeyId,
} from './extensions.ts';
import { publicKeyFromSpki } from './key.ts';
import { isSignedBy, type SignatureAlgorithm, signatureAlgorithm } from './signature.ts';

/** An X.509 v3 certificate that was read, not judged: `identity/verify.ts` does that. */
export interface Certificate {
  readonly raw: Uint8Array;
  /** What is signed. */
  readonly tbs: Uint8Array;
  /** Lower-case hex, two digits a byte, without the zero that only keeps the sign. */
  readonly serial: string;
  /** Names are compared as their DER. */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly spki: Uint8Array;
  readonly extensions: readonly Extension[];
  readonly uriSans: readonly string[];
  readonly dnsSans: readonly string[];
  readonly ipSans: readonly string[];
  readonly keyUsage: ReadonlySet<KeyUsage> | undefined;
  /** OIDs. */
  readonly extKeyUsage: readonly string[] | undefined;
  readonly basicConstraints: BasicConstraints | undefined;
  readonly subjectKeyId: Uint8Array | undefined;
  readonly authorityKeyId: Uint8Array | undefined;
  /** Undefined if it is not one that we trust. */
  readonly signatureAlgorithm: SignatureAlgorithm | undefined;
  readonly signature: Uint8Array;
}

const LONGEST_SERIAL = 20;
const VERSION_3 = Buffer.of(2, 1, 2);

/**
 * @param bytes DER, untrusted
 * @throws Fault INVALID_ARGUMENT: no strict DER, not version 3, or a malformed extension
 */
export function parseCertificate(bytes: Uint8Array): Certificate {
  try {
    return readCertificate(bytes);
  } catch (error) {
    if (!(error instanceof DerError)) throw error;
    throw new Fault('INVALID_ARGUMENT', `certificate malformed: ${error.message}`, {
      cause: error,
    });
  }
}

/**
 * The certificate's key, made once for each `Certificate`.
 * @throws Fault INVALID_ARGUMENT: a key type that is not allowed
 */
export function publicKeyOf(certificate: Certificate): KeyObject {
  const known = PUBLIC_KEYS.get(certificate);
  if (known !== undefined) return known;
  try {
    const key = publicKeyFromSpki(certificate.spki);
    PUBLIC_KEYS.set(certificate, key);
    return key;
  } catch (error) {
    if (!(error instanceof DerError)) throw error;
    throw new Fault('INVALID_ARGUMENT', `certificate key: ${error.message}`, { cause: error });
  }
}

const PUBLIC_KEYS = new WeakMap<Certificate, KeyObject>();

/** Whether the signature over `certificate` is by the key of `issuer`; nothing else is looked at. */
export function isIssuedBy(certificate: Certificate, issuer: Certificate): boolean {
  const { signatureAlgorithm: algorithm, tbs: signed, signature } = certificate;
  if (algorithm === undefined) return false;
  return isSignedBy(publicKeyOf(issuer), { algorithm, signed, signature });
}

export function isCritical(certificate: Certificate, oid: string): boolean {
  return certificate.extensions.some((extension) => extension.oid === oid && extension.critical);
}

function readCertificate(bytes: Uint8Array): Certificate {
  const whole = DerReader.only(bytes, TAG.sequence);
  const parts = DerReader.inside(whole);
  const tbs = parts.take(TAG.sequence);
  const algorithm = parts.take(TAG.sequence).raw;
  const signature = readOctetBits(parts.take(TAG.bitString));
  parts.end();

  const fields = DerReader.inside(tbs);
  const version = fields.take(0xa0);
  if (!version.content.equals(VERSION_3)) throw new DerError('not version 3');
  const serial = readUnsigned(fields.take(TAG.integer));
  // Zero is no number to issue under, but others do. Source: RFC 5280 4.1.2.2.
  if (serial.length > LONGEST_SERIAL) throw new DerError('serial number longer than 20 bytes');
  if (!fields.take(TAG.sequence).raw.equals(algorithm)) {
    throw new DerError('two signature algorithms');
  }
  const issuer = fields.take(TAG.sequence).raw;
  const { notBefore, notAfter } = readValidity(fields.sequence());
  const subject = fields.take(TAG.sequence).raw;
  const spki = fields.take(TAG.sequence).raw;
  const list = DerReader.only(fields.take(0xa3).content, TAG.sequence);
  const extensions = readExtensions(DerReader.inside(list));
  fields.end();
  return {
    raw: whole.raw,
    tbs: tbs.raw,
    serial: serial.toString('hex'),
    issuer,
    subject,
    notBefore,
    notAfter,
    spki,
    extensions,
    ...readKnown(extensions),
    signatureAlgorithm: signatureAlgorithm(algorithm),
    signature,
  };
}

/** Both times of a Validity, from its parts. @throws DerError */
export function readValidity(parts: DerReader): { notBefore: Date; notAfter: Date } {
  const notBefore = readTime(parts.any());
  const notAfter = readTime(parts.any());
  parts.end();
  return { notBefore, notAfter };
}

function readKnown(extensions: readonly Extension[]) {
  const read = <T>(oid: string, reader: (value: Uint8Array) => T): T | undefined => {
    const found = extensions.find((extension) => extension.oid === oid);
    return found === undefined ? undefined : reader(found.value);
  };
  const names = read(OID.subjectAltName, readAltNames);
  return {
    uriSans: names?.uris ?? [],
    dnsSans: names?.dnsNames ?? [],
    ipSans: names?.ipAddresses ?? [],
    keyUsage: read(OID.keyUsage, readKeyUsage),
    extKeyUsage: read(OID.extKeyUsage, readExtKeyUsage),
    basicConstraints: read(OID.basicConstraints, readBasicConstraints),
    subjectKeyId: read(OID.subjectKeyId, readSubjectKeyId),
    authorityKeyId: read(OID.authorityKeyId, readAuthorityKeyId),
  };
}
