/**
 * Claims as segments of a SPIFFE ID, so that no two sets of claims ever give the same one (threats
 * S11): every byte that is no letter, digit, `-` or `_` becomes `.` and two hex digits, and a value
 * that is no text says so. `refs/heads/main` is `refs.2Fheads.2Fmain`.
 */
import { SpiffeId, type TrustDomain } from '../../../identity/spiffe-id.ts';
import type { ClaimValue } from './oidc-config.ts';
import type { MatchedClaim } from './oidc-rules.ts';

/** @throws Fault SPIFFE_ID_INVALID if it were longer than a SPIFFE ID may be */
export function oidcAgentId(
  trustDomain: TrustDomain,
  issuerName: string,
  claims: readonly MatchedClaim[],
): SpiffeId {
  const segments = claims.flatMap(({ name, value }) => [encoded(name), encodedValue(value)]);
  return SpiffeId.fromSegments(trustDomain, 'spire', 'agent', 'oidc', issuerName, ...segments);
}

/** What follows the dot is in lower case, which no escaped byte's digits are. */
function encodedValue(value: ClaimValue): string {
  if (typeof value === 'string') return encoded(value);
  return typeof value === 'number' ? `.n${value}` : `.${value}`;
}

function encoded(text: string): string {
  return text === '' ? '.z' : [...Buffer.from(text, 'utf8')].map(escaped).join('');
}

function escaped(byte: number): string {
  const character = String.fromCharCode(byte);
  return /[A-Za-z0-9_-]/.test(character)
    ? character
    : `.${byte.toString(16).toUpperCase().padStart(2, '0')}`;
}
