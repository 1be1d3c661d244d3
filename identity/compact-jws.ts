/**
 * Signed tokens in compact form, read strictly: asymmetric algorithms alone, each bound to its own kind
 * of key, one spelling of base64url, and no header that could change what the token means.
 *
 * Source: RFC 7515 3.1 and 7.1; RFC 7518 3; RFC 8725 3.
 */
import { constants, type KeyObject, verify } from 'node:crypto';

/** A token that is well formed. Nothing is known of who signed it until `isSignedBy` says so. */
export interface CompactJws {
  readonly alg: string;
  readonly keyId: string;
  readonly claims: Readonly<Record<string, unknown>>;
  /** Header and claims as they were signed: another token has another. */
  readonly signed: string;
  /** False too for a key that is not of the algorithm's kind, or too weak. */
  isSignedBy(key: KeyObject): boolean;
}

export interface CompactJwsRules {
  /** Which header parameters there may be; any other, `crit` among them, is refused. */
  readonly headers: ReadonlySet<string>;
  /** What `typ` may say where it is there. */
  readonly types: ReadonlySet<string>;
}

/** In characters. */
export const LONGEST_TOKEN = 16_384;

/**
 * @param token untrusted
 * @throws Error that says what is wrong, without the token's text
 */
export function readCompactJws(token: string, rules: CompactJwsRules): CompactJws {
  if (token.length > LONGEST_TOKEN) throw new Error('longer than 16 KiB');
  const [head, body, tail, ...more] = token.split('.');
  if (head === undefined || body === undefined || tail === undefined || more.length > 0) {
    throw new Error('not three parts');
  }
  const { alg, check, keyId } = readHeader(decodeJson(head), rules);
  const claims = decodeJson(body);
  const signature = decodeBase64url(tail);
  const signed = `${head}.${body}`;
  return {
    ...{ alg, keyId, claims, signed },
    isSignedBy: (key) => check(key, Buffer.from(signed), signature),
  };
}

/** Whether tokens of this algorithm may be signed; `none` and those of shared secrets are not. */
export function isTokenAlgorithm(alg: unknown): alg is string {
  return ALGORITHMS.has(alg);
}

/** A claim that is an instant, undefined if it is not there. @throws Error if it is something else */
export function instantClaim(
  claims: Readonly<Record<string, unknown>>,
  name: 'exp' | 'iat' | 'nbf',
): Date | undefined {
  const seconds = claims[name];
  if (seconds === undefined) return undefined;
  const date = new Date(typeof seconds === 'number' ? seconds * 1000 : Number.NaN);
  if (Number.isNaN(date.getTime())) throw new Error(`${name} is no time`);
  return date;
}

/** The audience as a list. @throws Error if there is none */
export function audienceClaim({ aud }: Readonly<Record<string, unknown>>): readonly string[] {
  const audience = typeof aud === 'string' ? [aud] : aud;
  if (!isStrings(audience)) throw new Error('no audience');
  return audience;
}

/**
 * Whether a key can verify a token at all: on P-256, P-384 or P-521, or RSA of 2048 to 8192 bits (beyond, one
 * verification takes as long as a thousand).
 */
export function isTokenKey({ type, asymmetricKeyType, asymmetricKeyDetails }: KeyObject): boolean {
  const { namedCurve, modulusLength: bits = 0 } = asymmetricKeyDetails ?? {};
  if (type !== 'public') return false;
  if (asymmetricKeyType === 'rsa') return bits >= RSA_BITS.least && bits <= RSA_BITS.most;
  return asymmetricKeyType === 'ec' && namedCurve !== undefined && CURVES.has(namedCurve);
}

type Check = (key: KeyObject, signed: Buffer, signature: Buffer) => boolean;

/** The nine of JWT-SVID 2.1. */
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

const RSA_BITS = { least: 2048, most: 8192 } as const;
const CURVES: ReadonlySet<string> = new Set(['prime256v1', 'secp384r1', 'secp521r1']);

function rsa(hash: string, options: { padding: number; saltLength?: number }): Check {
  return (key, signed, signature) =>
    key.asymmetricKeyType === 'rsa' &&
    isTokenKey(key) &&
    verify(hash, signed, { key, ...options }, signature);
}

function readHeader(
  header: Record<string, unknown>,
  { headers, types }: CompactJwsRules,
): { alg: string; check: Check; keyId: string } {
  const { alg, kid: keyId, typ } = header;
  const check = ALGORITHMS.get(alg);
  if (typeof alg !== 'string' || check === undefined) throw new Error('algorithm not allowed');
  if (Object.keys(header).some((name) => !headers.has(name))) {
    throw new Error(`header other than ${[...headers].join(', ')}`);
  }
  if (typeof keyId !== 'string' || keyId === '') throw new Error('no key id');
  if (typ !== undefined && !(typeof typ === 'string' && types.has(typ)))
    throw new Error('type not allowed');
  return { alg, check, keyId };
}

function isStrings(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((one) => typeof one === 'string');
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
