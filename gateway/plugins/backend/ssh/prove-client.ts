import type { TrustDomain } from '../../../../identity/spiffe-id.ts';
import { isSshCertificate, type SshCertificate } from '../../../../identity/ssh/certificate.ts';
import { parseUserAuthData, verifyUserAuth } from '../../../../identity/ssh/user-auth.ts';
import {
  verifySshCertificate,
  workloadIdentity,
} from '../../../../identity/ssh/verify-certificate.ts';
import { Fault } from '../../../../runtime/fault.ts';
import type { SessionPeer } from '../../../session/session-desk.ts';
import type { PublicKeyAttempt } from './ssh2-server.ts';

export interface ProofRule {
  /** Public keys that sign workloads' certificates. */
  readonly authorities: readonly Uint8Array[];
  readonly trustDomain: TrustDomain;
  /** The client's, without a port. */
  readonly ip: string;
  readonly now: Date;
}

/** Offered by every client that has a key beside its certificate, so no event of its own. */
export const NO_CERTIFICATE = 'a key without a certificate';

/**
 * Who a client is, by its certificate and its signature over this very connection (RFC 4252 7). All of
 * it is looked at each time: that a certificate would do is no authentication.
 * @param attempt untrusted
 * @returns undefined if the client only asks, and its certificate would do
 * @throws Fault SSH_INVALID, whose message is for the log and the audit alone
 */
export function proveClient(attempt: PublicKeyAttempt, rule: ProofRule): SessionPeer | undefined {
  const { publicKey, proof } = attempt;
  if (!isSshCertificate(publicKey)) throw new Fault('SSH_INVALID', NO_CERTIFICATE);
  const certificate = verifySshCertificate(publicKey, {
    type: 'user',
    authorities: rule.authorities,
    now: rule.now,
    sourceAddress: rule.ip,
  });
  const id = workloadIdentity(certificate, rule.trustDomain);
  if (proof === undefined) return undefined;
  requireSigned(certificate, attempt, proof);
  return {
    id,
    serial: String(certificate.serial),
    notAfter: certificate.validBefore,
    proof: {
      case: 'ssh',
      certificate: certificate.blob,
      signedData: Buffer.from(proof.signedData),
      signature: Buffer.from(proof.signature),
    },
  };
}

function requireSigned(
  certificate: SshCertificate,
  { user, algorithm }: PublicKeyAttempt,
  { signedData, signature }: NonNullable<PublicKeyAttempt['proof']>,
): void {
  const request = parseUserAuthData(signedData);
  const isThisOne = request.user === user && request.algorithm === algorithm;
  if (!isThisOne || !verifyUserAuth(certificate, request, signedData, signature)) {
    throw new Fault('SSH_INVALID', 'the signature of the login does not verify');
  }
}
