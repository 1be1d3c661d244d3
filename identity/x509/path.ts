import { Fault } from '../../runtime/fault.ts';
import { type Certificate, isCritical, isIssuedBy, publicKeyOf } from './certificate.ts';
import { OID } from './extensions.ts';

const UNDERSTOOD: ReadonlySet<string> = new Set([
  OID.subjectKeyId,
  OID.keyUsage,
  OID.subjectAltName,
  OID.basicConstraints,
  OID.authorityKeyId,
  OID.extKeyUsage,
]);

/** What a chain is checked with; the order of the intermediates says nothing. */
export interface PathOptions {
  /** Untrusted, and few: every order of them may be tried. */
  readonly intermediates: readonly Certificate[];
  readonly roots: readonly Certificate[];
  readonly now: Date;
}

/**
 * The way from a certificate to a root, both included, for any purpose.
 * @throws Fault ATTESTATION_DENIED, its cause the reason
 *
 * Source: RFC 5280 6.1; name constraints are not supported and refused.
 */
export function findPath(leaf: Certificate, options: PathOptions): Certificate[] {
  checkAny(leaf, options.now);
  const path = pathFrom([leaf], new Set(options.intermediates), options);
  if (path === undefined) throw denied('no configured authority issued the certificate');
  return path;
}

/** Every way is tried: of two intermediates of one name and key, only one may lead to a root. */
function pathFrom(
  path: readonly Certificate[],
  unused: ReadonlySet<Certificate>,
  options: PathOptions,
): Certificate[] | undefined {
  const subject = path.at(-1);
  if (subject === undefined) throw new Error('a path without its leaf');
  const mayBeAbove = (one: Certificate) => mayIssue(one, subject, path.length - 1, options.now);
  const root = options.roots.find(mayBeAbove);
  if (root !== undefined) return same(root.raw, subject.raw) ? [...path] : [...path, root];
  for (const next of unused) {
    if (!mayBeAbove(next)) continue;
    const others = new Set([...unused].filter((one) => one !== next));
    const whole = pathFrom([...path, next], others, options);
    if (whole !== undefined) return whole;
  }
  return undefined;
}

/** @param above how many certificates stand between this issuer and the leaf */
function mayIssue(issuer: Certificate, subject: Certificate, above: number, now: Date): boolean {
  if (!same(subject.issuer, issuer.subject)) return false;
  const { basicConstraints, keyUsage } = issuer;
  if (basicConstraints?.ca !== true) return false;
  if (keyUsage !== undefined && !keyUsage.has('keyCertSign')) return false;
  if (above > (basicConstraints.pathLength ?? Number.POSITIVE_INFINITY)) return false;
  try {
    checkAny(issuer, now);
  } catch {
    return false;
  }
  return isIssuedBy(subject, issuer);
}

function checkAny(certificate: Certificate, now: Date): void {
  for (const { oid } of certificate.extensions) {
    if (oid === OID.nameConstraints) throw denied('name constraints are not supported');
    if (isCritical(certificate, oid) && !UNDERSTOOD.has(oid))
      throw denied('a critical extension is not understood');
  }
  if (now < certificate.notBefore) throw denied('a certificate is not yet valid');
  if (now > certificate.notAfter) throw denied('a certificate has expired');
  if (certificate.signatureAlgorithm === undefined)
    throw denied('a signature algorithm is not allowed');
  publicKeyOf(certificate);
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function denied(cause: string): Fault {
  return new Fault('ATTESTATION_DENIED', 'the certificate chain is not trusted', { cause });
}
