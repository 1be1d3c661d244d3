import type { Bundle } from '../../identity/bundle.ts';
import { verifySvid } from '../../identity/verify.ts';
import type { OpenSessionRequest } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { SshAuthorities } from './gateway-snapshot.ts';
import type { Credential } from './holder.ts';
import { type Refusal, refusal } from './refusal.ts';
import { verifySshProof } from './ssh-proof.ts';

/** Whose certificates count. */
export interface ProofRule {
  readonly bundle: Bundle;
  readonly sshAuthorities: SshAuthorities;
  readonly now: Date;
  /**
   * Whether a chain that verifies is of an SVID that this server has issued: others below the same roots
   * choose their serial numbers, by which it is looked up.
   */
  isIssuedHere(chain: readonly Uint8Array[]): boolean;
}

/**
 * What the client of a request holds, by the one proof that came along.
 * @param request untrusted
 */
export function verifyClientProof(
  request: OpenSessionRequest,
  rule: ProofRule,
): Credential | Refusal {
  const { bundle, sshAuthorities, now } = rule;
  const { clientChain, sshProof } = request;
  if (sshProof === undefined) return verifyChain(clientChain, rule);
  if (clientChain.length > 0) {
    return refusal('proof.several', 'a client proves itself in one way, not in two');
  }
  const { trustDomain } = bundle;
  return verifySshProof(sshProof, request, { authorities: sshAuthorities, trustDomain, now });
}

function verifyChain(
  chain: readonly Uint8Array[],
  { bundle, now, isIssuedHere }: ProofRule,
): Credential | Refusal {
  const bundles = (domain: string) => (domain === bundle.trustDomain ? bundle : undefined);
  try {
    const { id, serial, notAfter } = verifySvid(chain, bundles, now);
    if (!isIssuedHere(chain))
      return refusal('svid.foreign', 'this X509-SVID was not issued by this server');
    return { kind: 'x509', id, serial, notAfter };
  } catch (error) {
    if (error instanceof Fault && error.code === 'SVID_INVALID') {
      return refusal('svid.invalid', error.message);
    }
    throw error;
  }
}
