import type { Bundle } from '../../identity/bundle.ts';
import { isIssuedBy, parseCertificate } from '../../identity/x509/certificate.ts';

/** How the authority at the end of a chain stands in the bundle. */
export type Standing = 'good' | 'tainted' | 'gone';

/** @param chain DER, leaf first, without the authority itself */
export function authorityStanding(chain: readonly Uint8Array[], bundle: Bundle): Standing {
  const last = chain.at(-1);
  if (last === undefined) return 'gone';
  const certificate = parseCertificate(last);
  const issuers = bundle.x509Authorities.filter(
    ({ certificate: authority }) =>
      Buffer.compare(authority.subject, certificate.issuer) === 0 &&
      isIssuedBy(certificate, authority),
  );
  if (issuers.length === 0) return 'gone';
  return issuers.every(({ tainted }) => tainted) ? 'tainted' : 'good';
}
