import { createPublicKey, type KeyObject } from 'node:crypto';
import { Fault } from '../../runtime/fault.ts';
import type { SpiffeId } from '../spiffe-id.ts';
import {
  DerError,
  DerReader,
  der,
  derOctetBits,
  derOid,
  readOctetBits,
  readOid,
  TAG,
} from './der.ts';
import {
  type AltNames,
  derAltNames,
  derExtension,
  OID,
  readAltNames,
  readExtensions,
} from './extensions.ts';
import { importPublicKey, spkiOf } from './key.ts';
import {
  algorithmFor,
  isSignedBy,
  type SignatureAlgorithm,
  signatureAlgorithm,
  signWith,
} from './signature.ts';
import { readSubjectName, type SubjectName } from './subject-name.ts';

/** What a certificate signing request asks for, once its signature has been verified. */
export interface CertificateRequest {
  /** DER; the holder of the key signed the request. */
  readonly spki: Uint8Array;
  /** A DER sequence that nobody has looked into. */
  readonly subject: Uint8Array;
  readonly uriSans: readonly string[];
  readonly dnsSans: readonly string[];
}

const EXTENSION_REQUEST = '1.2.840.113549.1.9.14';
const VERSION_1 = Buffer.of(2, 1, 0);
const MOST_ATTRIBUTES = 16;

/**
 * Source: RFC 2986.
 * @param bytes PKCS#10 DER, untrusted
 * @throws Fault INVALID_ARGUMENT: malformed, a key or algorithm that is not allowed, or not signed
 *   by the key it asks for
 */
export async function parseCsr(bytes: Uint8Array): Promise<CertificateRequest> {
  try {
    return await readCsr(bytes);
  } catch (error) {
    throw asFault(error);
  }
}

/** The subject that a request asks for, undefined if it asks for none. @throws Fault INVALID_ARGUMENT */
export function requestedSubject({ subject }: CertificateRequest): SubjectName | undefined {
  try {
    const name = readSubjectName(subject);
    return name.parts.length === 0 && name.commonNames.length === 0 ? undefined : name;
  } catch (error) {
    throw asFault(error);
  }
}

function asFault(error: unknown): unknown {
  if (!(error instanceof DerError)) return error;
  return new Fault('INVALID_ARGUMENT', `CSR refused: ${error.message}`, { cause: error });
}

/** A PKCS#10 request for the key, with an empty subject. */
export function createCsr(
  key: KeyObject,
  { uri }: { readonly uri?: SpiffeId | undefined } = {},
): Uint8Array {
  const algorithm = algorithmFor(key);
  const info = csrInfo(spkiOf(createPublicKey(key)), { uri });
  return signedCsr(info, algorithm, signWith(key, algorithm, info));
}

/** What of a request its signature is over. */
export function csrInfo(
  spki: Uint8Array,
  parts: { readonly uri: SpiffeId | undefined; readonly subject?: Uint8Array },
): Buffer {
  const { uri, subject = der(TAG.sequence) } = parts;
  const attributes = uri === undefined ? der(0xa0) : der(0xa0, uriRequest(uri));
  return der(TAG.sequence, VERSION_1, subject, spki, attributes);
}

/** The request of a `csrInfo` and the signature over it. */
export function signedCsr(
  info: Uint8Array,
  { identifier }: SignatureAlgorithm,
  signature: Uint8Array,
): Uint8Array {
  return der(TAG.sequence, info, identifier, derOctetBits(signature));
}

function uriRequest(uri: SpiffeId): Buffer {
  const names = derAltNames({ uris: [uri.toString()], dnsNames: [], ipAddresses: [] });
  const list = der(TAG.sequence, derExtension(OID.subjectAltName, false, names));
  return der(TAG.sequence, derOid(EXTENSION_REQUEST), der(TAG.set, list));
}

async function readCsr(bytes: Uint8Array): Promise<CertificateRequest> {
  const parts = DerReader.inside(DerReader.only(bytes, TAG.sequence));
  const info = parts.take(TAG.sequence);
  const algorithm = signatureAlgorithm(parts.take(TAG.sequence).raw);
  const signature = readOctetBits(parts.take(TAG.bitString));
  parts.end();

  const fields = DerReader.inside(info);
  if (!fields.take(TAG.integer).raw.equals(VERSION_1)) throw new DerError('not version 1');
  const subject = fields.take(TAG.sequence).raw;
  const spki = fields.take(TAG.sequence).raw;
  const attributes = fields.optional(0xa0);
  fields.end();

  const key = await importPublicKey(spki);
  if (algorithm === undefined) throw new DerError('signature algorithm not allowed');
  if (!isSignedBy(key, { algorithm, signed: info.raw, signature })) {
    throw new DerError('signature does not verify');
  }
  const names = attributes === undefined ? undefined : readAttributes(DerReader.inside(attributes));
  return { spki, subject, uriSans: names?.uris ?? [], dnsSans: names?.dnsNames ?? [] };
}

/** The names asked for; attributes other than an extension request are passed over. */
function readAttributes(reader: DerReader): AltNames | undefined {
  let requested: DerReader | undefined;
  for (let count = 0; !reader.done; count++) {
    if (count === MOST_ATTRIBUTES) throw new DerError('too many attributes');
    const parts = reader.sequence();
    const oid = readOid(parts.take(TAG.oid));
    const values = parts.take(TAG.set);
    parts.end();
    if (oid !== EXTENSION_REQUEST) continue;
    if (requested !== undefined) throw new DerError('two extension requests');
    requested = DerReader.inside(DerReader.only(values.content, TAG.sequence));
  }
  if (requested === undefined) return undefined;
  const extensions = readExtensions(requested);
  const names = extensions.find(({ oid }) => oid === OID.subjectAltName);
  return names === undefined ? undefined : readAltNames(names.value);
}
