import { type Certificate, publicKeyOf, readValidity } from './certificate.ts';
import { DerError, DerReader, readAscii, readOctetBits, TAG } from './der.ts';
import { subjectKeyIdOf } from './key.ts';
import { type ExpectedLeaf, lintLeaf } from './lint.ts';
import { algorithmFor } from './signature.ts';

type Expected = Omit<ExpectedLeaf, 'issuer'>;

interface Validity {
  readonly raw: Buffer;
  readonly notBefore: Date;
  readonly notAfter: Date;
}

const VERSION_3 = Buffer.from('a003020102', 'hex');
const SERIAL_BYTES = 16;
/** A SubjectKeyIdentifier extension up to the 20 bytes of its id. */
const KEY_ID_HEAD = Buffer.from('301d0603551d0e04160414', 'hex');
const ALT_NAMES = Buffer.from('0603551d11', 'hex');

/**
 * `lintLeaf` for the many leaves of one authority. Those that it made one after the other have most of
 * their extensions in common to the byte: these are judged once, and all else of every leaf is read in
 * one pass. A leaf that this pass does not find good is judged in full.
 */
export class LeafLint {
  readonly #issuer: Certificate;
  readonly #algorithm: Uint8Array;
  /** What stood before the key's id and the names in a leaf that was found good. */
  #judged: Buffer | undefined;
  #validity: Validity | undefined;

  constructor(issuer: Certificate) {
    this.#issuer = issuer;
    this.#algorithm = algorithmFor(publicKeyOf(issuer)).identifier;
  }

  /** @throws Error as `lintLeaf` */
  check(der: Uint8Array, expected: Expected): void {
    if (this.#judged !== undefined && this.#isGood(der, expected, this.#judged)) return;
    lintLeaf(der, { ...expected, issuer: this.#issuer });
    this.#judged = commonExtensions(der);
  }

  #isGood(der: Uint8Array, expected: Expected, judged: Buffer): boolean {
    try {
      const list = this.#judgedFields(der, expected);
      return list?.subarray(0, judged.length).equals(judged) === true
        ? isOfKeyAndNames(list.subarray(judged.length), expected)
        : false;
    } catch (error) {
      if (error instanceof DerError) return false;
      throw error;
    }
  }

  /** The content of its list of extensions if all that stands around them is good. */
  #judgedFields(der: Uint8Array, expected: Expected): Buffer | undefined {
    const parts = DerReader.inside(DerReader.only(der, TAG.sequence));
    const fields = parts.sequence();
    if (!parts.take(TAG.sequence).raw.equals(this.#algorithm)) return undefined;
    readOctetBits(parts.take(TAG.bitString));
    parts.end();
    if (!fields.take(0xa0).raw.equals(VERSION_3)) return undefined;
    if (!isSerial(fields.take(TAG.integer).content)) return undefined;
    if (!fields.take(TAG.sequence).raw.equals(this.#algorithm)) return undefined;
    if (!fields.take(TAG.sequence).raw.equals(this.#issuer.subject)) return undefined;
    if (!this.#isInTime(fields.take(TAG.sequence).raw, expected)) return undefined;
    // Its names are not critical, so its subject must not be empty.
    if (fields.take(TAG.sequence).content.length === 0) return undefined;
    if (!fields.take(TAG.sequence).raw.equals(expected.spki)) return undefined;
    const list = DerReader.only(fields.take(0xa3).content, TAG.sequence).content;
    fields.end();
    return list;
  }

  #isInTime(raw: Buffer, expected: Expected): boolean {
    if (this.#validity?.raw.equals(raw) !== true)
      this.#validity = {
        raw: Buffer.from(raw),
        ...readValidity(DerReader.inside(DerReader.only(raw, TAG.sequence))),
      };
    const { notBefore, notAfter } = this.#validity;
    const { now } = expected;
    return (
      notBefore <= now &&
      notAfter > now &&
      notAfter <= expected.notAfter &&
      notAfter <= this.#issuer.notAfter
    );
  }
}

/** Positive, of 16 bytes, in its shortest form. */
function isSerial(content: Buffer): boolean {
  const [first = 0] = content;
  return content.length === SERIAL_BYTES && first > 0 && first < 0x80;
}

/** Whether two extensions are left: the key's id, and the names. */
function isOfKeyAndNames(extensions: Buffer, expected: Expected): boolean {
  const reader = new DerReader(extensions);
  const keyId = reader.take(TAG.sequence).raw;
  if (!keyId.subarray(0, KEY_ID_HEAD.length).equals(KEY_ID_HEAD)) return false;
  if (!keyId.subarray(KEY_ID_HEAD.length).equals(subjectKeyIdOf(expected.spki))) return false;
  const parts = reader.sequence();
  reader.end();
  if (!parts.take(TAG.oid).raw.equals(ALT_NAMES)) return false;
  const value = parts.take(TAG.octetString).content;
  parts.end();
  return isOfNames(DerReader.inside(DerReader.only(value, TAG.sequence)), expected);
}

/** Whether the names are the SPIFFE ID and the DNS names in their order; addresses are not read here. */
function isOfNames(reader: DerReader, { id, dnsNames, ipAddresses }: Expected): boolean {
  if (id.path === '' || ipAddresses.length > 0) return false;
  if (readAscii(reader.take(0x86)) !== id.toString()) return false;
  for (const name of dnsNames) if (readAscii(reader.take(0x82)) !== name) return false;
  return reader.done;
}

/** What stands before the last two extensions of a good leaf, if these are the key's id and the names. */
function commonExtensions(der: Uint8Array): Buffer | undefined {
  const fields = DerReader.inside(DerReader.only(der, TAG.sequence)).sequence();
  let list = fields.any();
  while (!fields.done) list = fields.any();
  const extensions = DerReader.inside(list).sequence();
  const found: { readonly raw: Buffer; readonly oid: Buffer }[] = [];
  while (!extensions.done) {
    const one = extensions.take(TAG.sequence);
    found.push({ raw: one.raw, oid: DerReader.inside(one).take(TAG.oid).raw });
  }
  const names = found.pop();
  const keyId = found.pop();
  const isUsual = keyId?.oid.equals(KEY_ID) === true && names?.oid.equals(ALT_NAMES) === true;
  return isUsual ? Buffer.concat(found.map(({ raw }) => raw)) : undefined;
}

const KEY_ID = KEY_ID_HEAD.subarray(2, 7);
