import { createHash, createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto';
import { Fault } from '../runtime/fault.ts';
import { scanJson, type TopNumbers } from './bundle-json.ts';
import { isTokenKey } from './compact-jws.ts';
import type { TrustDomain } from './spiffe-id.ts';
import { type Certificate, parseCertificate, publicKeyOf } from './x509/certificate.ts';
import { DerError, DerReader, TAG } from './x509/der.ts';
import { encodePem } from './x509/pem.ts';

/** A certificate that X509-SVIDs of the trust domain may chain to. */
export interface X509Authority {
  readonly der: Uint8Array;
  /** About to be withdrawn: still trusted, but what it signed is to be replaced. */
  readonly tainted: boolean;
  readonly certificate: Certificate;
}

/** A key that JWT-SVIDs of the trust domain may be signed with. */
export interface JwtAuthority {
  readonly keyId: string;
  readonly publicKey: KeyObject;
  readonly expiresAt: Date | undefined;
  readonly tainted: boolean;
}

/** What verifies the SVIDs of one trust domain. With no authority, none verifies. */
export interface Bundle {
  readonly trustDomain: TrustDomain;
  readonly x509Authorities: readonly X509Authority[];
  readonly jwtAuthorities: readonly JwtAuthority[];
  /** Rises with each change of content. */
  readonly sequenceNumber: bigint;
  /** How often to look for a newer one; 0 if nobody has said. */
  readonly refreshHintSeconds: number;
}

const MOST_AUTHORITIES = 256;
const LONGEST_BUNDLE = 1_048_576;
/** Of 64 bits, as SPIRE's message holds it. */
const MOST_SEQUENCE = 2n ** 64n - 1n;
const MOST_SECONDS = 2n ** 31n - 1n;

/** @throws Fault INVALID_ARGUMENT: no certificate, a key type that is not allowed, or too many */
export function makeBundle(parts: {
  readonly trustDomain: TrustDomain;
  /** DER, or what `x509Authority` made. */
  readonly x509: readonly (Uint8Array | X509Authority)[];
  readonly jwt?: readonly JwtAuthority[];
  readonly sequenceNumber?: bigint;
  readonly refreshHintSeconds?: number;
}): Bundle {
  const { trustDomain, x509, jwt = [], sequenceNumber = 0n, refreshHintSeconds = 0 } = parts;
  if (x509.length > MOST_AUTHORITIES || jwt.length > MOST_AUTHORITIES) {
    throw new Fault('INVALID_ARGUMENT', `bundle of more than ${MOST_AUTHORITIES} authorities`);
  }
  return {
    trustDomain,
    x509Authorities: x509.map((one) => ('der' in one ? one : x509Authority(one))),
    jwtAuthorities: jwt,
    sequenceNumber,
    refreshHintSeconds,
  };
}

/**
 * @param der copied, so that it outlives the message it came in
 * @throws Fault INVALID_ARGUMENT
 */
export function x509Authority(der: Uint8Array, tainted = false): X509Authority {
  const certificate = parseCertificate(Buffer.from(der));
  publicKeyOf(certificate);
  return { der: certificate.raw, tainted, certificate };
}

/** Its X.509 authorities as PEM, one after the other. */
export function bundleToPem(bundle: Bundle): string {
  return bundle.x509Authorities.map(({ der }) => encodePem('CERTIFICATE', der)).join('');
}

/** Its X.509 authorities as DER, one after the other: the form of the Workload API. */
export function bundleToX509Der(bundle: Bundle): Uint8Array {
  return Buffer.concat(bundle.x509Authorities.map(({ der }) => der));
}

/** @throws Fault INVALID_ARGUMENT */
export function bundleFromX509Der(trustDomain: TrustDomain, bytes: Uint8Array): Bundle {
  return makeBundle({ trustDomain, x509: splitX509Der(bytes) });
}

/**
 * The certificates of a concatenation, as the Workload API writes chains and bundles.
 * @param bytes untrusted
 * @throws Fault INVALID_ARGUMENT
 */
export function splitX509Der(bytes: Uint8Array): Uint8Array[] {
  const certificates: Uint8Array[] = [];
  try {
    const reader = new DerReader(bytes, LONGEST_BUNDLE);
    while (!reader.done) certificates.push(reader.take(TAG.sequence).raw);
  } catch (error) {
    if (!(error instanceof DerError)) throw error;
    const message = `certificates malformed: ${error.message}`;
    throw new Fault('INVALID_ARGUMENT', message, { cause: error });
  }
  return certificates;
}

/**
 * SPIFFE's JWKS. Authorities for `jwt-svid` alone make the form of the Workload API, which holds keys
 * of no other use.
 *
 * Source: SPIFFE Trust Domain and Bundle 4, X509-SVID 6.1, JWT-SVID 6.1.
 */
export function bundleToJwks(bundle: Bundle, uses: 'jwt-svid' | 'all'): string {
  const jwt = bundle.jwtAuthorities.map(({ keyId, publicKey }) => ({
    use: 'jwt-svid',
    kid: keyId,
    ...publicKey.export({ format: 'jwk' }),
  }));
  if (uses === 'jwt-svid') return JSON.stringify({ keys: jwt });
  const x509 = bundle.x509Authorities.map(({ der, certificate }) => ({
    use: 'x509-svid',
    ...publicKeyOf(certificate).export({ format: 'jwk' }),
    x5c: [Buffer.from(der).toString('base64')],
  }));
  // Written by hand because JSON.stringify knows no bigint.
  const hint =
    bundle.refreshHintSeconds === 0 ? '' : `,"spiffe_refresh_hint":${bundle.refreshHintSeconds}`;
  const keys = JSON.stringify([...x509, ...jwt]);
  return `{"keys":${keys},"spiffe_sequence":${bundle.sequenceNumber}${hint}}`;
}

/**
 * Keys of an unknown use or type, or that can verify no token, are passed over, and all but the first certificate of an `x5c`. A name
 * that an object has twice is refused: two readers would take two bundles from it.
 *
 * Source: SPIFFE Trust Domain and Bundle 4.1 and 5, X509-SVID 6.2.
 * @param json untrusted, at most 1 MiB
 * @throws Fault INVALID_ARGUMENT
 */
export function bundleFromJwks(trustDomain: TrustDomain, json: string): Bundle {
  const { keys, numberOf } = parseJwks(json);
  const x509: X509Authority[] = [];
  const jwt: JwtAuthority[] = [];
  for (const key of keys) {
    if (!isRecord(key)) throw malformed('a key is no object');
    if (key.kty !== 'EC' && key.kty !== 'RSA') continue;
    if (key.use === 'x509-svid') x509.push(...x509FromJwk(key));
    if (key.use === 'jwt-svid') jwt.push(...jwtFromJwk(key));
  }
  return makeBundle({
    trustDomain,
    x509,
    jwt,
    sequenceNumber: numberOf('spiffe_sequence', MOST_SEQUENCE),
    refreshHintSeconds: Number(numberOf('spiffe_refresh_hint', MOST_SECONDS)),
  });
}

/**
 * Lower-case hex of the SHA-256 of the first X.509 authority: what a join string carries, so that
 * first contact needs no trust.
 * @throws Fault FAILED_PRECONDITION: a bundle without X.509 authorities
 */
export function bundlePin(bundle: Bundle): string {
  const [first] = bundle.x509Authorities;
  if (first === undefined) {
    throw new Fault('FAILED_PRECONDITION', 'the bundle has no X.509 authority to pin');
  }
  return createHash('sha256').update(first.der).digest('hex');
}

/**
 * The pins of the authorities that a server may prove itself under soon: the first, and the next one that
 * is not tainted, which may take over before a join string is used.
 * @throws Fault FAILED_PRECONDITION: a bundle without X.509 authorities
 */
export function bundlePins(bundle: Bundle): string[] {
  const [, ...others] = bundle.x509Authorities;
  const next = others.find(({ tainted }) => !tainted);
  const pin = createHash('sha256');
  return [bundlePin(bundle), ...(next === undefined ? [] : [pin.update(next.der).digest('hex')])];
}

/** Whether each X.509 authority of the one is in the other: then what verified still does. */
export function keepsX509Authorities(before: Bundle, after: Bundle): boolean {
  return before.x509Authorities.every((old) =>
    after.x509Authorities.some(({ der }) => Buffer.compare(der, old.der) === 0),
  );
}

type Json = { readonly [name: string]: unknown };

interface Jwks {
  readonly keys: readonly unknown[];
  /** A member that is a whole number, 0 if it is not there. @throws Fault INVALID_ARGUMENT */
  numberOf(name: string, most: bigint): bigint;
}

function parseJwks(json: string): Jwks {
  if (json.length > LONGEST_BUNDLE) throw malformed('longer than 1 MiB');
  let document: unknown;
  let digits: TopNumbers;
  try {
    document = JSON.parse(json);
    digits = scanJson(json);
  } catch (error) {
    const isSyntax = error instanceof SyntaxError || !(error instanceof Error);
    throw malformed(isSyntax ? 'no JSON' : error.message, error);
  }
  if (!isRecord(document) || !Array.isArray(document.keys)) throw malformed('no list of keys');
  const { keys } = document;
  return {
    keys,
    numberOf(name, most) {
      if (document[name] === undefined) return 0n;
      const text = digits.get(name) ?? '';
      if (!/^\d{1,20}$/.test(text) || BigInt(text) > most)
        throw malformed(`${name} is no whole number up to ${most}`);
      return BigInt(text);
    },
  };
}

function x509FromJwk(key: Json): X509Authority[] {
  const [first] = Array.isArray(key.x5c) ? key.x5c : [];
  if (first === undefined) return [];
  if (typeof first !== 'string') throw malformed('x5c is no list of strings');
  return [x509Authority(Buffer.from(first, 'base64'))];
}

function jwtFromJwk(key: Json): JwtAuthority[] {
  if (typeof key.kid !== 'string' || key.kid === '') throw malformed('a jwt-svid key without kid');
  try {
    // `d` and the like are left out: what is read here is public.
    const { kty, crv, x, y, n, e } = key;
    const publicKey = createPublicKey({
      key: { kty, crv, x, y, n, e } as JsonWebKey,
      format: 'jwk',
    });
    if (!isTokenKey(publicKey)) return [];
    return [{ keyId: key.kid, publicKey, expiresAt: undefined, tainted: false }];
  } catch (error) {
    throw malformed('a jwt-svid key cannot be read', error);
  }
}

function isRecord(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function malformed(why: string, cause?: unknown): Fault {
  return new Fault('INVALID_ARGUMENT', `bundle malformed: ${why}`, { cause });
}
