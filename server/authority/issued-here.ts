/**
 * Who signed the SVID that somebody shows to this server. A server below ours, or beside it under one
 * upstream, signs SVIDs of the trust domain too and chooses their serial numbers, so a serial of our
 * ledger proves nothing unless one of our own authorities has signed it.
 */
import type { VerifiedSvid } from '../../identity/verify.ts';
import { isIssuedBy, parseCertificate } from '../../identity/x509/certificate.ts';
import { Fault } from '../../runtime/fault.ts';
import type { WatchedSource } from '../../runtime/watched.ts';
import type { AuthoritiesState } from './authority-state.ts';

/**
 * Whether a leaf was signed by an authority of this server, by a root of the bundle itself, or by what
 * stands right below a root that an operator has appended, such as that of the server it was moved from.
 * @param chain DER, leaf first, verified against the bundle of `state`; in whatever order besides
 */
export function isIssuedHere(chain: readonly Uint8Array[], state: AuthoritiesState): boolean {
  const [leaf, ...others] = chain.map((der) => parseCertificate(der));
  if (leaf === undefined) return false;
  const own = state.authorities.flatMap(({ row: { certificate } }) =>
    certificate === undefined ? [] : [parseCertificate(certificate)],
  );
  const roots = state.bundle.x509Authorities.map(({ certificate }) => certificate);
  if ([...own, ...roots].some((issuer) => isIssuedBy(leaf, issuer))) return true;
  const appended = state.trusted.flatMap(({ source, certificate }) =>
    source === 'appended' && certificate !== undefined ? [parseCertificate(certificate)] : [],
  );
  return others.some(
    (issuer) => isIssuedBy(leaf, issuer) && appended.some((root) => isIssuedBy(issuer, root)),
  );
}

/** Judges those who call, each connection's SVID once for as long as the authorities are the same. */
export class OwnIssuers {
  readonly #state: WatchedSource<AuthoritiesState>;
  /** As of which state a peer's SVID was found to be issued here. */
  readonly #judged = new WeakMap<VerifiedSvid, AuthoritiesState>();

  constructor(state: WatchedSource<AuthoritiesState>) {
    this.#state = state;
  }

  /** @throws Fault PERMISSION_DENIED for an SVID that another server has signed */
  require(svid: VerifiedSvid | undefined): void {
    const state = this.#state.value;
    if (svid === undefined || this.#judged.get(svid) === state) return;
    if (!isIssuedHere(svid.chain, state))
      throw new Fault('PERMISSION_DENIED', 'this SVID was signed by another server');
    this.#judged.set(svid, state);
  }
}
