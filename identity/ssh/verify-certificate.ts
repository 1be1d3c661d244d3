import { SpiffeId, type TrustDomain } from '../spiffe-id.ts';
import { parseSshCertificate, type SshCertificate } from './certificate.ts';
import { sourceAddressAllows } from './source-address.ts';
import { sshInvalid } from './wire.ts';

/** What a certificate has to be. */
export interface CertificateRule {
  readonly type: 'user' | 'host';
  /** The keys of the CAs that are trusted for this type, as blobs. */
  readonly authorities: readonly Uint8Array[];
  readonly now: Date;
  /** One that it must name. */
  readonly principal?: string;
  /** The peer's IP address; without it a certificate that asks for one is refused. */
  readonly sourceAddress?: string;
}

/**
 * A certificate that is good now, by a CA that is trusted. The one critical option that we know is
 * `source-address`, of a user's certificate; with any other, known to OpenSSH or not, it is refused.
 * @param blob untrusted
 * @throws Fault SSH_INVALID
 */
export function verifySshCertificate(blob: Uint8Array, rule: CertificateRule): SshCertificate {
  const certificate = parseSshCertificate(blob);
  const { authority, type, principals, validAfter, validBefore } = certificate;
  if (!rule.authorities.some((trusted) => authority.equals(trusted))) {
    throw sshInvalid('SSH certificate: authority not trusted');
  }
  if (type !== rule.type) {
    throw sshInvalid(`SSH certificate: of a ${type} where one of a ${rule.type} belongs`);
  }
  // Written so that a clock that yields no time refuses.
  if (!(rule.now >= validAfter)) throw sshInvalid('SSH certificate: not valid yet');
  if (!(rule.now < validBefore)) throw sshInvalid('SSH certificate: expired');
  if (principals.length === 0) throw sshInvalid('SSH certificate: no principals');
  if (rule.principal !== undefined && !principals.includes(rule.principal)) {
    throw sshInvalid('SSH certificate: not for this principal');
  }
  checkCriticalOptions(certificate, rule.sourceAddress);
  return certificate;
}

/**
 * Whose certificate it is: a workload's names one SPIFFE ID, as key ID and as only principal.
 * @param certificate verified
 * @throws Fault SSH_INVALID
 */
export function workloadIdentity(certificate: SshCertificate, trustDomain: TrustDomain): SpiffeId {
  const { principals, keyId } = certificate;
  const [principal, ...more] = principals;
  if (principal === undefined || more.length > 0 || principal !== keyId) {
    throw sshInvalid('SSH certificate: its key ID is not its only principal');
  }
  const id = spiffeIdOf(principal);
  if (id.trustDomain !== trustDomain) throw sshInvalid('SSH certificate: of another trust domain');
  if (id.path === '' || id.isReserved) throw sshInvalid('SSH certificate: not of a workload');
  return id;
}

function spiffeIdOf(principal: string): SpiffeId {
  try {
    return SpiffeId.parse(principal);
  } catch (error) {
    throw sshInvalid('SSH certificate: its principal is no SPIFFE ID', error);
  }
}

function checkCriticalOptions(certificate: SshCertificate, address: string | undefined): void {
  for (const [name, value] of certificate.criticalOptions) {
    if (certificate.type !== 'user' || name !== 'source-address') {
      throw sshInvalid(`SSH certificate: critical option ${name} not allowed`);
    }
    if (address === undefined || !sourceAddressAllows(value, address)) {
      throw sshInvalid('SSH certificate: not for this source address');
    }
  }
}
