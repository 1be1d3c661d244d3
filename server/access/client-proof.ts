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
}

/**
 * What the client of a request holds, by the one proof that came along.
 * @param request untrusted
 */
export function verifyClientProof(
  request: OpenSessionRequest,
  { bundle, sshAuthorities, now }: ProofRule,
): Credential | Refusal {
  const { clientChain, sshProof } = request;
  if (sshProof === undefined) return verifyChain(clientChain, bundle, now);
  if (clientChain.length > 0) {
    return refusal('proof.several', 'a client proves itself in one way, not in two');
  }
  const { trustDomain } = bundle;
  return verifySshProof(sshProof, request, { authorities: sshAuthorities, trustDomain, now });
}

function verifyChain(
  chain: readonly Uint8Array[],
  bundle: Bundle,
  now: Date,
): Credential | Refusal {
  const bundles = (domain: string) => (domain === bundle.trustDomain ? bundle : undefined);
  try {
    const { id, serial, notAfter } = verifySvid(chain, bundles, now);
    return { kind: 'x509', id, serial, notAfter };
  } catch (error) {
    if (error instanceof Fault && error.code === 'SVID_INVALID') {
      return refusal('svid.invalid', error.message);
    }
    throw error;
  }
}
