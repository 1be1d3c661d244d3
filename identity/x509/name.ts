import { DerError, DerReader, TAG } from './der.ts';

const COMMON_NAME = Buffer.from('0603550403', 'hex');
const LONGEST = 256;

/**
 * The first common name of a Name, if it is UTF8String or PrintableString without control characters.
 * @param name DER, as a parsed certificate has it
 *
 * Source: RFC 5280 4.1.2.4.
 */
export function commonNameOf(name: Uint8Array): string | undefined {
  try {
    const sets = DerReader.inside(DerReader.only(name, TAG.sequence));
    while (!sets.done) {
      const attributes = DerReader.inside(sets.take(TAG.set));
      while (!attributes.done) {
        const parts = DerReader.inside(attributes.take(TAG.sequence));
        const isCommonName = parts.take(TAG.oid).raw.equals(COMMON_NAME);
        const value = parts.any();
        if (isCommonName && (value.tag === TAG.utf8String || value.tag === TAG.printableString))
          return plainText(value.content);
      }
    }
    return undefined;
  } catch (error) {
    if (error instanceof DerError) return undefined;
    throw error;
  }
}

function plainText(bytes: Uint8Array): string | undefined {
  const text = Buffer.from(bytes).toString('utf8');
  return text.length > LONGEST || /[\p{Cc}\ufffd]/u.test(text) ? undefined : text;
}
