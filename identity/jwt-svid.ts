import { constants, type KeyObject, sign, verify } from 'node:crypto';
import { Fault } from '../runtime/fault.ts';
import type { Bundle, JwtAuthority } from './bundle.ts';
import { SpiffeId, type TrustDomain } from './spiffe-id.ts';

/** What a JWT-SVID is to say. */
export interface JwtSvidInit {
  readonly id: SpiffeId;
  /** At least one. */
  readonly audience: readonly string[];
  readonly issuedAt: Date;
  readonly expiresAt: Date;
  readonly keyId: string;
  /** P-256. */
  readonly key: KeyObject;
  readonly jti?: string | undefined;
}

/** A JWT-SVID that has been verified. */
export interface VerifiedJwtSvid {
  readonly id: SpiffeId;
  readonly audience: readonly string[];
  readonly expiresAt: Date;
  /** All that the token says, these three included. */
  readonly claims: Readonly<Record<string, unknown>>;
}

const LONGEST_TOKEN = 16_384;

/** ES256 in compact form. Source: JWT-SVID 2 and 3. */
export function signJwtSvid(init: JwtSvidInit): string {
  if (init.key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') {
    throw new Error('JWT-SVIDs are signed with a P-256 key');
  }
  const header = { alg: 'ES256', kid: init.keyId, typ: 'JWT' };
  const claims = {
    sub: init.id.toString(),
    aud: init.audience,
    exp: unixSeconds(init.expiresAt),
    iat: unixSeconds(init.issuedAt),
    ...(init.jti === undefined ? {} : { jti: init.jti }),
  };
  const signed = `${encodeJson(header)}.${encodeJson(claims)}`;
  const signature = sign('sha256', Buffer.from(signed), {
    key: init.key,
    dsaEncoding: 'ieee-p1363',
  });
  return `${signed}.${signature.toString('base64url')}`;
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

function readToken(token: string, expected: Expectations): VerifiedJwtSvid {
  if (token.length > LONGEST_TOKEN) throw new Error('longer than 16 KiB');
  const [head, body, tail, ...more] = token.split('.');
  if (head === undefined || body === undefined || tail === undefined || more.length > 0) {
    throw new Error('not three parts');
  }
  const { algorithm, keyId } = readHeader(decodeJson(head));
  const claims = decodeJson(body);
  if (typeof claims.sub !== 'string') throw new Error('no subject');
  const id = SpiffeId.parse(claims.sub);
  const authority = findAuthority(expected.bundles(id.trustDomain), id, keyId, expected.now);
  const signed = Buffer.from(`${head}.${body}`);
  if (!algorithm(authority.publicKey, signed, decodeBase64url(tail))) {
    throw new Error('signature does not verify');
  }
  return { id, claims, ...checkClaims(claims, expected) };
}

type Check = (key: KeyObject, signed: Buffer, signature: Buffer) => boolean;

/** The nine of JWT-SVID 2.1, each bound to its own kind of key. */
const ALGORITHMS: ReadonlyMap<unknown, Check> = new Map<unknown, Check>([
  ['ES256', ecdsa('sha256', 'prime256v1')],
  ['ES384', ecdsa('sha384', 'secp384r1')],
  ['ES512', ecdsa('sha512', 'secp521r1')],
  ...(['256', '384', '512'] as const).flatMap((bits): [string, Check][] => [
    [`RS${bits}`, rsa(`sha${bits}`, { padding: constants.RSA_PKCS1_PADDING })],
    [
      `PS${bits}`,
      rsa(`sha${bits}`, {
        padding: constants.RSA_PKCS1_PSS_PADDING,
        saltLength: Number(bits) / 8,
      }),
    ],
  ]),
]);

function ecdsa(hash: string, curve: string): Check {
  return (key, signed, signature) =>
    key.asymmetricKeyDetails?.namedCurve === curve &&
    verify(hash, signed, { key, dsaEncoding: 'ieee-p1363' }, signature);
}

const LEAST_RSA_BITS = 2048;

function rsa(hash: string, options: { padding: number; saltLength?: number }): Check {
  return (key, signed, signature) =>
    key.asymmetricKeyType === 'rsa' &&
    (key.asymmetricKeyDetails?.modulusLength ?? 0) >= LEAST_RSA_BITS &&
    verify(hash, signed, { key, ...options }, signature);
}

const HEADER_NAMES: ReadonlySet<string> = new Set(['alg', 'kid', 'typ']);

function readHeader(header: Record<string, unknown>): { algorithm: Check; keyId: string } {
  const algorithm = ALGORITHMS.get(header.alg);
  if (algorithm === undefined) throw new Error('algorithm not allowed');
  if (Object.keys(header).some((name) => !HEADER_NAMES.has(name))) {
    throw new Error('header other than alg, kid and typ');
  }
  const { kid: keyId, typ } = header;
  if (typeof keyId !== 'string' || keyId === '') throw new Error('no key id');
  if (typ !== undefined && typ !== 'JWT' && typ !== 'JOSE') throw new Error('type not allowed');
  return { algorithm, keyId };
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
  claims: Record<string, unknown>,
  { audience: wanted, now }: Expectations,
): { audience: readonly string[]; expiresAt: Date } {
  const audience = typeof claims.aud === 'string' ? [claims.aud] : claims.aud;
  if (!isStrings(audience)) throw new Error('no audience');
  if (!audience.includes(wanted)) throw new Error('meant for another audience');
  const expiresAt = instant(claims.exp, 'exp');
  if (expiresAt === undefined) throw new Error('no expiry');
  if (expiresAt <= now) throw new Error('expired');
  const notBefore = instant(claims.nbf, 'nbf');
  if (notBefore !== undefined && notBefore > now) throw new Error('not yet valid');
  instant(claims.iat, 'iat');
  return { audience, expiresAt };
}

function isStrings(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((one) => typeof one === 'string');
}

function instant(seconds: unknown, name: string): Date | undefined {
  if (seconds === undefined) return undefined;
  const date = new Date(typeof seconds === 'number' ? seconds * 1000 : Number.NaN);
  if (Number.isNaN(date.getTime())) throw new Error(`${name} is no time`);
  return date;
}

function unixSeconds(date: Date): number {
  return Math.floor(date.getTime() / 1000);
}

function encodeJson(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

function decodeJson(part: string): Record<string, unknown> {
  const text = new TextDecoder('utf-8', { fatal: true }).decode(decodeBase64url(part));
  const value: unknown = JSON.parse(text);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Error('no JSON object');
  }
  return { ...value };
}

/** Only the one spelling that encoding gives. */
function decodeBase64url(text: string): Buffer {
  const bytes = Buffer.from(text, 'base64url');
  if (bytes.toString('base64url') !== text) throw new Error('malformed base64url');
  return bytes;
}
