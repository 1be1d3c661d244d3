import type { KeyObject } from 'node:crypto';
import { Fault } from '../runtime/fault.ts';
import type { Bundle, JwtAuthority } from './bundle.ts';
import { audienceClaim, instantClaim, readCompactJws } from './compact-jws.ts';
import { localSigner, type Signer, whenHere } from './signer.ts';
import { SpiffeId, type TrustDomain } from './spiffe-id.ts';
import { DerReader, readUnsigned, TAG } from './x509/der.ts';
import { keyTypeName } from './x509/key.ts';

/** What a JWT-SVID is to say. */
export interface JwtSvidInit {
  readonly id: SpiffeId;
  /** At least one. */
  readonly audience: readonly string[];
  readonly issuedAt: Date;
  readonly expiresAt: Date;
  readonly keyId: string;
  readonly jti?: string | undefined;
  /** The `iss` claim, for verifiers that speak OIDC. */
  readonly issuer?: string | undefined;
}

/** A JWT-SVID that has been verified. */
export interface VerifiedJwtSvid {
  readonly id: SpiffeId;
  readonly audience: readonly string[];
  readonly expiresAt: Date;
  /** All that the token says, these three included. */
  readonly claims: Readonly<Record<string, unknown>>;
}

/** How a key signs tokens, and how wide the numbers of an ECDSA signature are. */
export interface TokenAlgorithm {
  readonly alg: 'ES256' | 'ES384' | 'RS256';
  readonly hash: 'sha256' | 'sha384';
  readonly width?: number;
}

const TOKEN_ALGORITHMS: ReadonlyMap<string, TokenAlgorithm> = new Map<string, TokenAlgorithm>([
  ['ec-p256', { alg: 'ES256', hash: 'sha256', width: 32 }],
  ['ec-p384', { alg: 'ES384', hash: 'sha384', width: 48 }],
  ['rsa-2048', { alg: 'RS256', hash: 'sha256' }],
  ['rsa-4096', { alg: 'RS256', hash: 'sha256' }],
]);

/** A token in compact form. Source: JWT-SVID 2 and 3. */
export type JwtSigner = (init: JwtSvidInit) => string | Promise<string>;

/** Signs tokens with a key that may be elsewhere. */
export function jwtSigner(signer: Signer): JwtSigner {
  const algorithm = tokenAlgorithm(signer.publicKey);
  return (init) => {
    const signed = tokenBody(init, algorithm);
    return whenHere(signer.sign(Buffer.from(signed), algorithm), (signature) =>
      finished(signed, signature, algorithm),
    );
  };
}

/** As `jwtSigner`, with a key that is here. */
export function signJwtSvid({ key, ...init }: JwtSvidInit & { readonly key: KeyObject }): string {
  const signer = localSigner(key);
  const algorithm = tokenAlgorithm(signer.publicKey);
  const signed = tokenBody(init, algorithm);
  return finished(signed, signer.sign(Buffer.from(signed), algorithm), algorithm);
}

/** @throws Error if tokens are not signed by keys of that type */
export function tokenAlgorithm(key: KeyObject): TokenAlgorithm {
  const algorithm = TOKEN_ALGORITHMS.get(keyTypeName(key));
  if (algorithm === undefined)
    throw new Error('JWT-SVIDs are signed with P-256, P-384, or RSA of 2048 or 4096 bits');
  return algorithm;
}

function tokenBody(init: JwtSvidInit, { alg }: TokenAlgorithm): string {
  const header = { alg, kid: init.keyId, typ: 'JWT' };
  const claims = {
    sub: init.id.toString(),
    aud: init.audience,
    exp: unixSeconds(init.expiresAt),
    iat: unixSeconds(init.issuedAt),
    ...(init.issuer === undefined ? {} : { iss: init.issuer }),
    ...(init.jti === undefined ? {} : { jti: init.jti }),
  };
  return `${encodeJson(header)}.${encodeJson(claims)}`;
}

function finished(signed: string, signature: Uint8Array, { width }: TokenAlgorithm): string {
  const bytes = width === undefined ? Buffer.from(signature) : fixedWidth(signature, width);
  return `${signed}.${bytes.toString('base64url')}`;
}

/** The two numbers of an ECDSA signature side by side. Source: RFC 7518 3.4. */
function fixedWidth(signature: Uint8Array, width: number): Buffer {
  const numbers = DerReader.inside(DerReader.only(signature, TAG.sequence));
  const both = Buffer.alloc(2 * width);
  for (const end of [width, 2 * width]) {
    const number = readUnsigned(numbers.take(TAG.integer));
    number.copy(both, end - number.length);
  }
  numbers.end();
  return both;
}

/**
 * Source: JWT-SVID 2 to 5. Stricter: `kid` is required, and no time is given beyond `exp`.
 * @param token untrusted
 * @param audience who is asking: must be among the token's
 * @throws Fault JWT_SVID_INVALID; its cause says why
 */
export function verifyJwtSvid(
  token: string,
  audience: string,
  bundles: (trustDomain: TrustDomain) => Bundle | undefined,
  now: Date,
): VerifiedJwtSvid {
  try {
    return readToken(token, { audience, bundles, now });
  } catch (cause) {
    throw new Fault('JWT_SVID_INVALID', 'JWT-SVID refused', { cause });
  }
}

interface Expectations {
  readonly audience: string;
  readonly bundles: (trustDomain: TrustDomain) => Bundle | undefined;
  readonly now: Date;
}

const RULES = {
  headers: new Set(['alg', 'kid', 'typ']),
  types: new Set(['JWT', 'JOSE']),
};

function readToken(token: string, expected: Expectations): VerifiedJwtSvid {
  const jws = readCompactJws(token, RULES);
  const { claims, keyId } = jws;
  if (typeof claims.sub !== 'string') throw new Error('no subject');
  const id = SpiffeId.parse(claims.sub);
  const authority = findAuthority(expected.bundles(id.trustDomain), id, keyId, expected.now);
  if (!jws.isSignedBy(authority.publicKey)) throw new Error('signature does not verify');
  return { id, claims, ...checkClaims(claims, expected) };
}

function findAuthority(
  bundle: Bundle | undefined,
  id: SpiffeId,
  keyId: string,
  now: Date,
): JwtAuthority {
  if (bundle === undefined || bundle.trustDomain !== id.trustDomain) {
    throw new Error('unknown trust domain');
  }
  const authority = bundle.jwtAuthorities.find((one) => one.keyId === keyId);
  if (authority === undefined) throw new Error('unknown key id');
  if (authority.expiresAt !== undefined && authority.expiresAt <= now) {
    throw new Error('key expired');
  }
  return authority;
}

function checkClaims(
  claims: Readonly<Record<string, unknown>>,
  { audience: wanted, now }: Expectations,
): { audience: readonly string[]; expiresAt: Date } {
  const audience = audienceClaim(claims);
  if (!audience.includes(wanted)) throw new Error('meant for another audience');
  const expiresAt = instantClaim(claims, 'exp');
  if (expiresAt === undefined) throw new Error('no expiry');
  if (expiresAt <= now) throw new Error('expired');
  const notBefore = instantClaim(claims, 'nbf');
  if (notBefore !== undefined && notBefore > now) throw new Error('not yet valid');
  instantClaim(claims, 'iat');
  return { audience, expiresAt };
}

function unixSeconds(date: Date): number {
  return Math.floor(date.getTime() / 1000);
}

function encodeJson(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
