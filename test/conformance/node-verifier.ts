/** What Node's own X.509 says of a chain: a verifier beside Go's and OpenSSL's. */
import { X509Certificate } from 'node:crypto';

export interface NodeVerdict {
  /** The only URI among the leaf's names. */
  readonly uri: string;
  /** What is wrong; empty for a good chain. */
  readonly said: readonly string[];
}

/**
 * @param chain PEM, one certificate each, the leaf first
 * @param roots the same, in any order
 */
export function checkByNode(chain: readonly string[], roots: readonly string[]): NodeVerdict {
  const said: string[] = [];
  const certificates = chain.map((pem) => new X509Certificate(pem));
  const trusted = roots.map((pem) => new X509Certificate(pem));
  const [leaf] = certificates;
  if (leaf === undefined) return { uri: '', said: ['no leaf'] };
  for (const [at, one] of certificates.entries()) {
    const next = certificates[at + 1];
    const issuers = next === undefined ? trusted : [next];
    if (!issuers.some((issuer) => isSignedBy(one, issuer))) said.push(`nobody signed number ${at}`);
    if (one.ca !== at > 0) said.push(`cA of number ${at} is ${one.ca}`);
    if (!isValidNow(one)) said.push(`number ${at} is from ${one.validFrom} to ${one.validTo}`);
  }
  const names = leaf.subjectAltName?.split(', ') ?? [];
  const uris = names.filter((name) => name.startsWith('URI:'));
  if (uris.length !== 1) said.push(`${uris.length} URI names`);
  return { uri: uris[0]?.slice('URI:'.length) ?? '', said };
}

function isSignedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return issuer.ca && certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}

function isValidNow({ validFrom, validTo }: X509Certificate): boolean {
  const now = Date.now();
  return Date.parse(validFrom) <= now && now < Date.parse(validTo);
}
