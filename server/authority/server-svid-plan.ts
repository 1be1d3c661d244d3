import type { Bundle } from '../../identity/bundle.ts';
import { type Certificate, isIssuedBy, parseCertificate } from '../../identity/x509/certificate.ts';
import type { X509Svid } from '../../identity/x509-svid.ts';
import type { AuthorityRow } from './authority-rows.ts';

/** What agents that poll take to have a new authority in their bundle. */
const TOLD_MS = 10_000;
/** For how long an authority is so new that an agent which is out of touch may not know it. */
const NEW_MS = 10 * 60 * 1000;

export interface SvidPlan {
  /** Whether the authority that signs now has signed it. */
  readonly isOfActive: boolean;
  /** When the next one is due. */
  readonly renewAt: Date;
}

/**
 * When the server's SVID is replaced. One of an authority that signs no more is shown for longer while the new
 * authority is not yet known to all: an agent can learn of it only from a server that it trusts.
 */
export function svidPlan(svid: X509Svid, active: AuthorityRow, bundle: Bundle): SvidPlan {
  const from = svid.notBefore.getTime();
  const life = svid.notAfter.getTime() - from;
  const half = new Date(from + life / 2);
  const [leaf, ...issuers] = svid.chain.map((der) => parseCertificate(der));
  if (leaf === undefined || hasSigned(active, leaf)) return { isOfActive: true, renewAt: half };
  const known = active.notBefore.getTime();
  const standing = standingOf(issuers.at(-1) ?? leaf, bundle);
  if (standing === 'gone') return { isOfActive: false, renewAt: new Date(0) };
  if (standing === 'tainted') return { isOfActive: false, renewAt: new Date(known + TOLD_MS) };
  const late = Math.min(from + life * 0.9, known + NEW_MS);
  return { isOfActive: false, renewAt: new Date(Math.max(half.getTime(), late)) };
}

function hasSigned({ certificate }: AuthorityRow, leaf: Certificate): boolean {
  return certificate !== undefined && isIssuedBy(leaf, parseCertificate(certificate));
}

function standingOf(last: Certificate, bundle: Bundle): 'good' | 'tainted' | 'gone' {
  const issuers = bundle.x509Authorities.filter(({ certificate }) => isIssuedBy(last, certificate));
  if (issuers.length === 0) return 'gone';
  return issuers.every(({ tainted }) => tainted) ? 'tainted' : 'good';
}
