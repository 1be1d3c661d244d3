/**
 * How an SSH client proved itself to a gateway, judged once more from its bytes: a gateway that was taken
 * over can name nobody who has not signed to it, and nothing but what they asked for (threats S2).
 */
import { isIP } from 'node:net';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import { isSshCertificate } from '../../identity/ssh/certificate.ts';
import {
  parseUserAuthData,
  type UserAuthRequest,
  verifyUserAuth,
} from '../../identity/ssh/user-auth.ts';
import { verifySshCertificate, workloadIdentity } from '../../identity/ssh/verify-certificate.ts';
import type { OpenSessionRequest, SshProof } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { SshAuthorities } from './gateway-snapshot.ts';
import type { Credential } from './holder.ts';
import { type Refusal, refusal } from './refusal.ts';

/** By what a proof is judged. */
export interface SshProofRule {
  readonly authorities: SshAuthorities;
  readonly trustDomain: TrustDomain;
  readonly now: Date;
}

/** @param request untrusted; what it asks for must be what the client has signed */
export function verifySshProof(
  proof: SshProof,
  request: OpenSessionRequest,
  rule: SshProofRule,
): Credential | Refusal {
  try {
    return judged(proof, request, rule);
  } catch (error) {
    if (error instanceof Fault && error.code === 'SSH_INVALID') {
      return refusal('proof.invalid', error.message);
    }
    throw error;
  }
}

function judged(
  { certificate: blob, signedData, signature }: SshProof,
  request: OpenSessionRequest,
  { authorities, trustDomain, now }: SshProofRule,
): Credential | Refusal {
  const sourceAddress = addressOf(request.clientAddress);
  const certificate = verifySshCertificate(blob, {
    type: 'user',
    authorities: authorities.user,
    now,
    ...(sourceAddress !== undefined && { sourceAddress }),
  });
  const id = workloadIdentity(certificate, trustDomain);
  const signed = parseUserAuthData(signedData);
  if (!verifyUserAuth(certificate, signed, signedData, signature)) {
    return refusal('proof.invalid', 'the signature of this login does not verify');
  }
  if (!asksFor(signed, request, { authorities, now })) {
    return refusal('proof.other', 'what was signed is a login to something else');
  }
  const serial = certificate.serial.toString();
  return { kind: 'ssh-user', id, serial, notAfter: certificate.validBefore };
}

/**
 * Whether the user that was signed is the request's: `login+backend[+grant]`, to the gateway itself; or
 * `login[+grant]`, to what the gateway shows as the backend. Of those clients that also sign the host key
 * they saw, that key says which backend; those that sign none, or saw a plain key, name it to the gateway
 * alone.
 * @throws Fault SSH_INVALID for a host certificate of another backend, or one that is not ours
 */
function asksFor(
  { user, hostKey }: UserAuthRequest,
  { login, backend, grant }: OpenSessionRequest,
  { authorities, now }: Pick<SshProofRule, 'authorities' | 'now'>,
): boolean {
  const suffix = grant === '' ? '' : `+${grant}`;
  if (user === `${login}+${backend}${suffix}`) return true;
  if (user !== `${login}${suffix}`) return false;
  if (hostKey !== undefined && isSshCertificate(hostKey)) {
    const rule = { type: 'host', authorities: authorities.host, now, principal: backend } as const;
    verifySshCertificate(hostKey, rule);
  }
  return true;
}

/** The IP address of `address:port`, undefined if it is none. */
function addressOf(clientAddress: string): string | undefined {
  const host = clientAddress.slice(0, clientAddress.lastIndexOf(':')).replace(/^\[(.*)\]$/, '$1');
  return isIP(host) === 0 ? undefined : host;
}
