/**
 * A password as SCRAM hashes it. Without this step one that is typed in another form than the one that
 * the server stored would be refused.
 *
 * Source: RFC 4013; RFC 3454 tables B.1 and C.1.2. As PostgreSQL does, a password that the profile
 * prohibits is taken as it is.
 */

const SPACES = /[\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000]/gu;
const MAPPED_TO_NOTHING =
  /\u00ad|\u034f|\u1806|[\u180b-\u180d]|[\u200c-\u200d]|\u2060|[\ufe00-\ufe0f]|\ufeff/gu;
/** Controls, private use, surrogates, tags and the like; RFC 4013 section 2.3. */
const PROHIBITED = /[\p{Cc}\p{Co}\p{Cs}\p{Zl}\p{Zp}\u{e0001}\u{e0020}-\u{e007f}\ufff9-\ufffd]/u;

export function prepared(password: string): string {
  if (/^[\x20-\x7e]*$/.test(password)) return password;
  const mapped = password.replace(SPACES, ' ').replace(MAPPED_TO_NOTHING, '').normalize('NFKC');
  return mapped === '' || PROHIBITED.test(mapped) ? password : mapped;
}
