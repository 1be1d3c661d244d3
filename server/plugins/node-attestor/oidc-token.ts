/** ID tokens of an OpenID Connect issuer, verified strictly. */
import { createHash } from 'node:crypto';
import { audienceClaim, instantClaim, readCompactJws } from '../../../identity/compact-jws.ts';
import { Fault } from '../../../runtime/fault.ts';
import type { TokenKey } from './jwks.ts';

/** How far the issuer's clock may be from ours. */
export const SKEW_MS = 60_000;
/** Threats S11: how old a token may be that does not carry our nonce. */
const OLDEST_MS = 120_000;
const LONGEST_ID = 256;

export interface VerifiedToken {
  readonly claims: Readonly<Record<string, unknown>>;
  /** At least one. */
  readonly audience: readonly string[];
  readonly issuedAt: Date | undefined;
  readonly expiresAt: Date;
  /** The issuer's name for this one token, 1 to 256 characters; undefined if it has none. */
  readonly jti: string | undefined;
  /** Hex SHA-256 of what was signed: no other token has it. */
  readonly digest: string;
}

export interface TokenExpectations {
  /** Exactly as the token names it. */
  readonly issuer: string;
  readonly keys: { find(keyId: string, alg: string): Promise<readonly TokenKey[]> };
  readonly now: Date;
}

/** Issuers also name the signing certificate by its hash; that changes nothing. */
const RULES = {
  headers: new Set(['alg', 'kid', 'typ', 'x5t', 'x5t#S256']),
  types: new Set(['JWT', 'jwt']),
};

/**
 * Whom it is for is the caller's to check, and whether it is fresh.
 * @param token untrusted
 * @throws Fault ATTESTATION_DENIED, its cause the reason; UNAVAILABLE if the issuer's keys cannot be had
 *
 * Source: OpenID Connect Core 3.1.3.7; RFC 8725 3.
 */
export async function verifyToken(
  token: string,
  { issuer, keys, now }: TokenExpectations,
): Promise<VerifiedToken> {
  const jws = orDenied(() => readCompactJws(token, RULES));
  const { claims, keyId, alg } = jws;
  if (claims.iss !== issuer) throw denied('it is of another issuer');
  const times = orDenied(() => checkTimes(claims, now));
  const audience = orDenied(() => audienceClaim(claims));
  if (audience.length === 0) throw denied('no audience');
  const candidates = await keys.find(keyId, alg);
  if (candidates.length === 0) throw denied('unknown key id');
  if (!candidates.some(({ key }) => jws.isSignedBy(key)))
    throw denied('the signature does not verify');
  const digest = createHash('sha256').update(jws.signed).digest('hex');
  return { claims, audience, ...times, jti: tokenId(claims.jti), digest };
}

/** Refuses one that is not of these two minutes: without our nonce it may have been kept. */
export function requireYoung({ issuedAt }: VerifiedToken, now: Date, oldestMs = OLDEST_MS): void {
  if (issuedAt === undefined) throw denied('it does not say when it was issued');
  if (now.getTime() - issuedAt.getTime() > oldestMs)
    throw denied(`it was issued more than ${oldestMs / 1000} s ago`);
}

export function denied(reason: string): Fault {
  return new Fault('ATTESTATION_DENIED', 'the token does not prove this node', { cause: reason });
}

function orDenied<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw denied(error instanceof Error ? error.message : 'malformed');
  }
}

function checkTimes(
  claims: Readonly<Record<string, unknown>>,
  now: Date,
): { readonly issuedAt: Date | undefined; readonly expiresAt: Date } {
  const expiresAt = instantClaim(claims, 'exp');
  const issuedAt = instantClaim(claims, 'iat');
  const notBefore = instantClaim(claims, 'nbf');
  const [earliest, latest] = [now.getTime() - SKEW_MS, now.getTime() + SKEW_MS];
  if (expiresAt === undefined) throw new Error('no expiry');
  if (expiresAt.getTime() <= earliest) throw new Error('expired');
  for (const start of [notBefore, issuedAt])
    if (start !== undefined && start.getTime() > latest) throw new Error('not yet valid');
  return { issuedAt, expiresAt };
}

function tokenId(jti: unknown): string | undefined {
  if (jti === undefined) return undefined;
  if (typeof jti === 'string' && jti !== '' && jti.length <= LONGEST_ID) return jti;
  throw denied('jti is no id');
}
