import { DerError, DerReader, der, derOid, readOid, TAG } from './der.ts';

/** What a certificate's subject says besides its SPIFFE ID, which stands elsewhere. */
export interface SubjectName {
  /** DER of each part but the common names. */
  readonly parts: readonly Uint8Array[];
  /** A client that knows nothing of SPIFFE may take one for a host's name. */
  readonly commonNames: readonly string[];
}

const COMMON_NAME = '2.5.4.3';

/** What each value must be: of a PrintableString its letters, of others nothing more. */
const ATTRIBUTES: ReadonlyMap<string, RegExp | undefined> = new Map([
  ['2.5.4.6', /^[A-Za-z]{2}$/], // country
  ['2.5.4.5', /^[A-Za-z0-9 '()+,./:=?-]+$/], // serial number
  // Locality, state, street, organisation, unit, postal code.
  ...[7, 8, 9, 10, 11, 17].map((last) => [`2.5.4.${last}`, undefined] as const),
]);

const MOST_PARTS = 16;
const LONGEST_VALUE = 64;
const IA5_STRING = 0x16;
const TEXT: ReadonlySet<number> = new Set([TAG.utf8String, TAG.printableString, IA5_STRING]);

/**
 * Attributes that RFC 5280 does not name are left out.
 *
 * Source: RFC 5280 4.1.2.4 and appendix A.1 (64 characters; a country has two letters).
 * @param name a DER Name, untrusted
 * @throws DerError
 */
export function readSubjectName(name: Uint8Array): SubjectName {
  const parts: Uint8Array[] = [];
  const commonNames: string[] = [];
  const reader = DerReader.inside(DerReader.only(name, TAG.sequence));
  for (let count = 0; !reader.done; count++) {
    if (count === MOST_PARTS) throw new DerError('subject of too many parts');
    const { oid, value } = readPart(reader);
    if (oid === COMMON_NAME) commonNames.push(value);
    else if (ATTRIBUTES.has(oid)) parts.push(relativeName(oid, encoded(oid, value)));
  }
  return { parts, commonNames };
}

/** A DER Name of these parts and one common name. */
export function derName(parts: readonly Uint8Array[], commonName: string | undefined): Buffer {
  if (commonName === undefined) return der(TAG.sequence, ...parts);
  const value = der(TAG.utf8String, Buffer.from(commonName));
  return der(TAG.sequence, ...parts, relativeName(COMMON_NAME, value));
}

/** One attribute of a name, DER. */
export function relativeName(oid: string, value: Uint8Array): Buffer {
  return der(TAG.set, der(TAG.sequence, derOid(oid), value));
}

function readPart(reader: DerReader): { readonly oid: string; readonly value: string } {
  const set = DerReader.inside(reader.take(TAG.set));
  const attribute = set.sequence();
  // Of several attributes in one part no verifier makes use.
  set.end();
  const oid = readOid(attribute.take(TAG.oid));
  const { tag, content } = attribute.any();
  attribute.end();
  if (!TEXT.has(tag)) throw new DerError('subject is not text that can be read');
  let value: string;
  try {
    value = new TextDecoder('utf-8', { fatal: true }).decode(content);
  } catch {
    throw new DerError('subject is not text that can be read');
  }
  if (value === '' || value.length > LONGEST_VALUE || /\p{Cc}/u.test(value))
    throw new DerError(`subject of an empty part, or of more than ${LONGEST_VALUE} characters`);
  return { oid, value };
}

function encoded(oid: string, value: string): Buffer {
  const printable = ATTRIBUTES.get(oid);
  if (printable === undefined) return der(TAG.utf8String, Buffer.from(value));
  if (!printable.test(value))
    throw new DerError('subject with a malformed country or serial number');
  return der(TAG.printableString, Buffer.from(value, 'latin1'));
}
