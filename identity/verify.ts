/**
 * The one judge of X509-SVIDs, used after every handshake. Node's TLS accepts 16 of 18 leaves that
 * SPIFFE forbids, so nothing of its verdict is used here: the chain is judged as bytes.
 *
 * Source: RFC 5280 6.1, X509-SVID 5. Stricter than both: signing certificates must bear a critical
 * keyUsage, name constraints are refused rather than interpreted, and every certificate sent must be
 * part of the path.
 */
import { createHash } from 'node:crypto';
import { Fault } from '../runtime/fault.ts';
import type { Bundle } from './bundle.ts';
import { SpiffeId, type TrustDomain } from './spiffe-id.ts';
import {
  type Certificate,
  isCritical,
  isIssuedBy,
  parseCertificate,
  publicKeyOf,
} from './x509/certificate.ts';
import type { RevocationStatus, RevocationView } from './x509/crl-view.ts';
import { MAXIMUM_DER_BYTES } from './x509/der.ts';
import { OID } from './x509/extensions.ts';

/** A peer that has been verified. */
export interface VerifiedSvid {
  readonly id: SpiffeId;
  /** Of the leaf, in lower-case hex. */
  readonly serial: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** DER, leaf first, as the peer sent it. */
  readonly chain: readonly Uint8Array[];
  /** Lower-case hex of the leaf's SHA-256. */
  readonly fingerprint: string;
}

/**
 * Why an X509-SVID was refused. A closed set without a word of the peer's, so that it can be counted
 * and shown.
 */
export type SvidRefusal =
  | 'no certificate'
  | 'chain too long'
  | 'certificate too large'
  | 'certificate malformed'
  | 'leaf has not exactly one URI name'
  | 'leaf has no valid SPIFFE ID'
  | 'leaf has a SPIFFE ID without a path'
  | 'leaf without subject has a name that is not critical'
  | 'leaf is a CA'
  | 'leaf lacks a critical key usage'
  | 'leaf lacks digitalSignature'
  | 'leaf may sign certificates'
  | 'leaf lacks server or client purpose'
  | 'key not allowed'
  | 'unknown trust domain'
  | 'unknown critical extension'
  | 'name constraints not supported'
  | 'certificate not yet valid'
  | 'certificate expired'
  | 'signature algorithm not allowed'
  | 'signature does not verify'
  | 'certificate not issued by the next'
  | 'no trusted authority issued the chain'
  | 'certificates beyond the trusted authority'
  | 'issuer is not a CA'
  | 'issuer lacks keyCertSign'
  | 'issuer lacks server or client purpose'
  | 'issuer has the SPIFFE ID of a workload or another trust domain'
  | 'path length exceeded'
  | 'revoked by its authority'
  | 'held back by its authority'
  | 'revocation list of its authority is out of date';

const LONGEST_CHAIN = 8;

/**
 * @param chain DER, leaf first, untrusted; the root may come last
 * @param bundles the bundle of a trust domain, undefined if that domain is not trusted
 * @param revocation what revocation lists say, if there are any to go by
 * @throws Fault SVID_INVALID; its cause is an Error whose message is a `SvidRefusal`
 */
export function verifySvid(
  chain: readonly Uint8Array[],
  bundles: (trustDomain: TrustDomain) => Bundle | undefined,
  now: Date,
  revocation?: RevocationView,
): VerifiedSvid {
  const [leaf, ...issuers] = parseChain(chain);
  if (leaf === undefined) throw refusal('no certificate');
  const id = checkLeaf(leaf);
  checkAny(leaf, now);
  const bundle = bundles(id.trustDomain);
  if (bundle === undefined || bundle.trustDomain !== id.trustDomain) {
    throw refusal('unknown trust domain');
  }
  const path = checkPath({ leaf, issuers, bundle, now });
  if (revocation !== undefined) checkRevocation(leaf, path, revocation);
  return {
    id,
    serial: leaf.serial,
    notBefore: leaf.notBefore,
    notAfter: leaf.notAfter,
    chain,
    fingerprint: createHash('sha256').update(leaf.raw).digest('hex'),
  };
}

/** Every certificate of the path but the authority is asked about. Source: RFC 5280 6.1.3 (a, 3). */
function checkRevocation(
  leaf: Certificate,
  path: readonly Certificate[],
  revocation: RevocationView,
): void {
  let subject = leaf;
  for (const issuer of path) {
    const reason = REVOKED[revocation(subject.serial, issuer)];
    if (reason !== undefined) throw refusal(reason);
    subject = issuer;
  }
}

const REVOKED: Readonly<Record<RevocationStatus, SvidRefusal | undefined>> = {
  good: undefined,
  revoked: 'revoked by its authority',
  held: 'held back by its authority',
  outdated: 'revocation list of its authority is out of date',
};

/** The reason inside a Fault that `verifySvid` threw. */
export function svidRefusal(error: unknown): string | undefined {
  const isOurs = error instanceof Fault && error.code === 'SVID_INVALID';
  return isOurs && error.cause instanceof Error ? error.cause.message : undefined;
}

function refusal(reason: SvidRefusal, detail?: unknown): Fault {
  const cause = new Error(reason, detail === undefined ? undefined : { cause: detail });
  return new Fault('SVID_INVALID', 'X509-SVID refused', { cause });
}

function parseChain(chain: readonly Uint8Array[]): Certificate[] {
  if (chain.length > LONGEST_CHAIN) throw refusal('chain too long');
  return chain.map((der) => {
    if (der.length > MAXIMUM_DER_BYTES) throw refusal('certificate too large');
    try {
      return parseCertificate(der);
    } catch (error) {
      throw refusal('certificate malformed', error);
    }
  });
}

const EMPTY_NAME = Buffer.of(0x30, 0);

/** Source: X509-SVID 2, 3.1, 4 and 5.2. */
function checkLeaf(leaf: Certificate): SpiffeId {
  const id = leafId(leaf);
  const { keyUsage } = leaf;
  if (EMPTY_NAME.equals(leaf.subject) && !isCritical(leaf, OID.subjectAltName)) {
    throw refusal('leaf without subject has a name that is not critical');
  }
  if (leaf.basicConstraints?.ca === true) throw refusal('leaf is a CA');
  if (keyUsage === undefined || !isCritical(leaf, OID.keyUsage)) {
    throw refusal('leaf lacks a critical key usage');
  }
  if (keyUsage.has('keyCertSign') || keyUsage.has('cRLSign')) {
    throw refusal('leaf may sign certificates');
  }
  if (!keyUsage.has('digitalSignature')) throw refusal('leaf lacks digitalSignature');
  if (!servesBothPurposes(leaf)) throw refusal('leaf lacks server or client purpose');
  return id;
}

function leafId(leaf: Certificate): SpiffeId {
  const [uri, ...more] = leaf.uriSans;
  if (uri === undefined || more.length > 0) throw refusal('leaf has not exactly one URI name');
  const id = readId(uri);
  if (id.path === '') throw refusal('leaf has a SPIFFE ID without a path');
  return id;
}

function readId(uri: string): SpiffeId {
  try {
    return SpiffeId.parse(uri);
  } catch (error) {
    throw refusal('leaf has no valid SPIFFE ID', error);
  }
}

/** A certificate without the extension serves all purposes. */
function servesBothPurposes({ extKeyUsage: purposes }: Certificate): boolean {
  if (purposes === undefined) return true;
  return purposes.includes(OID.serverAuth) && purposes.includes(OID.clientAuth);
}

const UNDERSTOOD: ReadonlySet<string> = new Set([
  OID.subjectKeyId,
  OID.keyUsage,
  OID.subjectAltName,
  OID.basicConstraints,
  OID.authorityKeyId,
  OID.extKeyUsage,
]);

/** What holds for every certificate of the path. */
function checkAny(certificate: Certificate, now: Date): void {
  for (const { oid, critical } of certificate.extensions) {
    if (oid === OID.nameConstraints) throw refusal('name constraints not supported');
    if (critical && !UNDERSTOOD.has(oid)) throw refusal('unknown critical extension');
  }
  if (now < certificate.notBefore) throw refusal('certificate not yet valid');
  if (now > certificate.notAfter) throw refusal('certificate expired');
  if (certificate.signatureAlgorithm === undefined) {
    throw refusal('signature algorithm not allowed');
  }
  try {
    publicKeyOf(certificate);
  } catch (error) {
    throw refusal('key not allowed', error);
  }
}

interface Path {
  readonly leaf: Certificate;
  readonly issuers: readonly Certificate[];
  readonly bundle: Bundle;
  readonly now: Date;
}

/**
 * Walks from the leaf towards an authority of the bundle. The order is the peer's: each certificate
 * must be issued by the next, and nothing is searched for, so the work is bounded by the chain.
 * @returns who issued the leaf, who issued that one, and so on up to the authority
 */
function checkPath({ leaf, issuers, bundle, now }: Path): Certificate[] {
  let subject = leaf;
  let intermediates = 0;
  for (const [at, issuer] of [...issuers, undefined].entries()) {
    const authority = findAuthority(subject, bundle);
    if (authority !== undefined) {
      checkAuthority(authority, { intermediates, now });
      checkNothingBeyond(issuers.slice(at), authority);
      return [...issuers.slice(0, at), authority];
    }
    if (issuer === undefined) break;
    if (!namesIssuer(subject, issuer)) throw refusal('certificate not issued by the next');
    checkIssuer(issuer, { trustDomain: bundle.trustDomain, intermediates, now });
    if (!isIssuedBy(subject, issuer)) throw refusal('signature does not verify');
    // A self-issued certificate, as in a rollover of keys, does not count. Source: RFC 5280 6.1.4 (l).
    if (!isSelfIssued(issuer)) intermediates += 1;
    subject = issuer;
  }
  throw refusal('no trusted authority issued the chain');
}

function findAuthority(subject: Certificate, bundle: Bundle): Certificate | undefined {
  return bundle.x509Authorities.find(
    ({ certificate }) => namesIssuer(subject, certificate) && isIssuedBy(subject, certificate),
  )?.certificate;
}

function namesIssuer(subject: Certificate, issuer: Certificate): boolean {
  if (!same(subject.issuer, issuer.subject)) return false;
  const { authorityKeyId } = subject;
  const { subjectKeyId } = issuer;
  if (authorityKeyId === undefined || subjectKeyId === undefined) return true;
  return same(authorityKeyId, subjectKeyId);
}

interface IssuerContext {
  readonly trustDomain: TrustDomain;
  /** How many certificates that are not self-issued stand between this one and the leaf. */
  readonly intermediates: number;
  readonly now: Date;
}

/** Source: RFC 5280 6.1.4, X509-SVID 3.2 and 4. */
function checkIssuer(issuer: Certificate, context: IssuerContext): void {
  if (!isCritical(issuer, OID.basicConstraints)) throw refusal('issuer is not a CA');
  if (issuer.keyUsage === undefined || !isCritical(issuer, OID.keyUsage)) {
    throw refusal('issuer lacks keyCertSign');
  }
  checkAuthority(issuer, context);
  if (spiffeIdsOf(issuer).some((uri) => uri !== `spiffe://${context.trustDomain}`)) {
    throw refusal('issuer has the SPIFFE ID of a workload or another trust domain');
  }
}

/**
 * What the bundle trusts by name is often a root that its organisation had before, without a key
 * usage or with a name of its own: that it is in the bundle says whose it is. It may say less than
 * an issuer in the chain, and nothing that contradicts its part.
 */
function checkAuthority(
  issuer: Certificate,
  { intermediates, now }: Omit<IssuerContext, 'trustDomain'>,
): void {
  checkAny(issuer, now);
  const { basicConstraints, keyUsage } = issuer;
  if (basicConstraints?.ca !== true) throw refusal('issuer is not a CA');
  if (keyUsage?.has('keyCertSign') === false) throw refusal('issuer lacks keyCertSign');
  if (!issuer.extKeyUsage?.includes(OID.anyExtKeyUsage) && !servesBothPurposes(issuer)) {
    throw refusal('issuer lacks server or client purpose');
  }
  if (intermediates > (basicConstraints.pathLength ?? LONGEST_CHAIN)) {
    throw refusal('path length exceeded');
  }
  if (spiffeIdsOf(issuer).some((uri) => /^spiffe:\/\/[^/]*\//.test(uri))) {
    throw refusal('issuer has the SPIFFE ID of a workload or another trust domain');
  }
}

function spiffeIdsOf({ uriSans }: Certificate): string[] {
  return uriSans.filter((uri) => uri.startsWith('spiffe:'));
}

/** A peer may send the root too; what else it sends is not understood, so it is refused. */
function checkNothingBeyond(rest: readonly Certificate[], authority: Certificate): void {
  const [root, ...more] = rest;
  if (root === undefined) return;
  if (more.length > 0 || !same(root.raw, authority.raw)) {
    throw refusal('certificates beyond the trusted authority');
  }
}

function isSelfIssued(certificate: Certificate): boolean {
  return same(certificate.issuer, certificate.subject);
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
