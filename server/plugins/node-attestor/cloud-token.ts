/**
 * Tokens that a cloud gives to everybody on a machine, for an audience that does not carry our nonce:
 * young, taken once, and the machine's agent is the first one only, until an operator evicts it.
 */
import { SpiffeId, type TrustDomain } from '../../../identity/spiffe-id.ts';
import type { Clock } from '../../../runtime/clock.ts';
import type { IssuerKeys } from './jwks.ts';
import type { SpentTokenStore } from './oidc.ts';
import { denied, requireYoung, SKEW_MS, type VerifiedToken, verifyToken } from './oidc-token.ts';

export interface CloudTokenOptions {
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
  readonly tokens: SpentTokenStore;
}

export interface CloudTokenRules {
  readonly issuer: string;
  readonly audience: string;
  readonly keys: IssuerKeys;
  readonly oldestMs?: number;
}

/**
 * Its claims, if it is genuine, for us alone, and young; not taken yet.
 * @param text untrusted
 * @throws Fault ATTESTATION_DENIED, UNAVAILABLE
 */
export async function verifyCloudToken(
  text: string,
  { issuer, audience, keys, oldestMs }: CloudTokenRules,
  { clock }: CloudTokenOptions,
): Promise<VerifiedToken> {
  const now = clock.now();
  const token = await verifyToken(text, { issuer, keys, now });
  if (token.audience.length !== 1 || token.audience[0] !== audience)
    throw denied('it is not for the configured audience alone');
  requireYoung(token, now, oldestMs);
  return token;
}

/** Takes a token, which is known by what was signed: not every cloud names its tokens. */
export async function takeCloudToken(
  { digest, expiresAt }: VerifiedToken,
  issuer: string,
  { tokens }: CloudTokenOptions,
): Promise<void> {
  const until = new Date(expiresAt.getTime() + SKEW_MS);
  if (!(await tokens.spend({ issuer, id: digest, expiresAt: until })))
    throw denied('it has been used before');
}

/** @throws Fault ATTESTATION_DENIED if a name makes no segment */
export function cloudAgentId(trustDomain: TrustDomain, ...names: readonly string[]): SpiffeId {
  try {
    return SpiffeId.fromSegments(trustDomain, 'spire', 'agent', ...names);
  } catch {
    throw denied('its names make no SPIFFE ID');
  }
}
