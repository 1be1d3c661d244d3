/**
 * Signed data of PKCS#7 with its content inside and one signer, whose certificate is known beforehand:
 * what a message brings of certificates is not looked at.
 *
 * Source: RFC 5652 5 and 11.
 */
import { createHash, type KeyObject, verify } from 'node:crypto';
import { derFromBer } from './ber.ts';
import { type Der, DerError, DerReader, readOid, readSmallInteger, TAG } from './der.ts';

const OID = {
  data: '1.2.840.113549.1.7.1',
  signedData: '1.2.840.113549.1.7.2',
  contentType: '1.2.840.113549.1.9.3',
  messageDigest: '1.2.840.113549.1.9.4',
  sha256: '2.16.840.1.101.3.4.2.1',
  rsa: '1.2.840.113549.1.1.1',
  sha256WithRsa: '1.2.840.113549.1.1.11',
} as const;

const CONTEXT_0 = 0xa0;
const CONTEXT_1 = 0xa1;
const SUBJECT_KEY_ID = 0x80;
const LEAST_RSA_BITS = 2048;

/**
 * The content, if the key signed it: RSA of 2048 bits or more, SHA-256.
 * @param bytes BER, untrusted, at most 64 KiB
 * @throws Error that says what is wrong
 */
export function verifySignedData(bytes: Uint8Array, key: KeyObject): Buffer {
  const { content, signer } = readSignedData(derFromBer(bytes));
  const { signature, attributes } = readSigner(signer);
  if (attributes !== undefined) checkAttributes(attributes, content);
  // Attributes are signed as the SET that they are, not as the part that they stand in.
  const signed =
    attributes === undefined
      ? content
      : Buffer.concat([Buffer.of(TAG.set), attributes.raw.subarray(1)]);
  const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
  if (key.asymmetricKeyType !== 'rsa' || bits < LEAST_RSA_BITS)
    throw new Error('the key is not RSA of 2048 bits or more');
  if (!verify('sha256', signed, key, signature)) throw new Error('the signature does not verify');
  return content;
}

function readSignedData(bytes: Buffer): { readonly content: Buffer; readonly signer: DerReader } {
  const outer = DerReader.inside(DerReader.only(bytes, TAG.sequence));
  if (readOid(outer.take(TAG.oid)) !== OID.signedData) throw new DerError('no signed data');
  const wrapped = DerReader.inside(outer.take(CONTEXT_0));
  outer.end();
  const signedData = wrapped.sequence();
  wrapped.end();
  readSmallInteger(signedData.take(TAG.integer));
  signedData.take(TAG.set);
  const content = readContent(signedData.sequence());
  signedData.optional(CONTEXT_0);
  signedData.optional(CONTEXT_1);
  const signers = DerReader.inside(signedData.take(TAG.set));
  signedData.end();
  const signer = signers.sequence();
  signers.end();
  return { content, signer };
}

function readContent(reader: DerReader): Buffer {
  if (readOid(reader.take(TAG.oid)) !== OID.data) throw new DerError('content of another type');
  const wrapped = DerReader.inside(reader.take(CONTEXT_0));
  reader.end();
  const { content } = wrapped.take(TAG.octetString);
  wrapped.end();
  return content;
}

function readSigner(reader: DerReader): {
  readonly signature: Buffer;
  readonly attributes: Der | undefined;
} {
  readSmallInteger(reader.take(TAG.integer));
  if (reader.optional(SUBJECT_KEY_ID) === undefined) reader.take(TAG.sequence);
  requireAlgorithm(reader.sequence(), [OID.sha256]);
  const attributes = reader.optional(CONTEXT_0);
  requireAlgorithm(reader.sequence(), [OID.rsa, OID.sha256WithRsa]);
  const { content: signature } = reader.take(TAG.octetString);
  reader.optional(CONTEXT_1);
  reader.end();
  return { signature, attributes };
}

function requireAlgorithm(reader: DerReader, allowed: readonly string[]): void {
  if (!allowed.includes(readOid(reader.take(TAG.oid)))) throw new Error('algorithm not allowed');
  reader.optional(TAG.null);
  reader.end();
}

/** Source: RFC 5652 11.1 and 11.2: both must be there, once, with one value. */
function checkAttributes(attributes: Der, content: Buffer): void {
  const found = new Map<string, Der>();
  const reader = DerReader.inside(attributes);
  while (!reader.done) {
    const attribute = reader.sequence();
    const oid = readOid(attribute.take(TAG.oid));
    const values = DerReader.inside(attribute.take(TAG.set));
    attribute.end();
    const value = values.any();
    values.end();
    if (found.has(oid)) throw new DerError('an attribute twice');
    found.set(oid, value);
  }
  const type = found.get(OID.contentType);
  if (type === undefined || type.tag !== TAG.oid || readOid(type) !== OID.data)
    throw new Error('the signature is of another content');
  const digest = found.get(OID.messageDigest);
  const expected = createHash('sha256').update(content).digest();
  if (digest?.tag !== TAG.octetString || !digest.content.equals(expected))
    throw new Error('the content is not what was signed');
}
