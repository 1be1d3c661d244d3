/** SPIRE's message for a bundle, from what it holds and back. */
import { createPublicKey } from 'node:crypto';
import { create } from '@bufbuild/protobuf';
import {
  type Bundle,
  type JwtAuthority,
  makeBundle,
  type X509Authority,
  x509Authority,
} from '../../identity/bundle.ts';
import { isTokenKey } from '../../identity/compact-jws.ts';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import { spkiOf } from '../../identity/x509/key.ts';
import {
  type Bundle as BundleMessage,
  BundleSchema,
  type JWTKey,
  type X509Certificate,
} from '../../proto/gen/spire/api/types/bundle_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { trustDomainFromText } from './spiffe-id-message.ts';

const MAXIMUM_KEY_ID = 256;
const LAST_SECOND = 253_402_300_799n;

export function bundleMessage(bundle: Bundle): BundleMessage {
  return create(BundleSchema, {
    trustDomain: bundle.trustDomain,
    x509Authorities: bundle.x509Authorities.map(({ der, tainted }) => ({ asn1: der, tainted })),
    jwtAuthorities: bundle.jwtAuthorities.map(jwtKeyMessage),
    refreshHint: BigInt(bundle.refreshHintSeconds),
    sequenceNumber: bundle.sequenceNumber,
  });
}

export function jwtKeyMessage({ keyId, publicKey, expiresAt, tainted }: JwtAuthority) {
  return {
    publicKey: spkiOf(publicKey),
    keyId,
    expiresAt: expiresAt === undefined ? 0n : BigInt(Math.floor(expiresAt.getTime() / 1000)),
    tainted,
  };
}

/**
 * @param message untrusted
 * @throws Fault INVALID_ARGUMENT with the field
 */
export function bundleFromMessage(message: BundleMessage): Bundle {
  return withJwt(message, jwtFromMessages(message.jwtAuthorities));
}

/** As `bundleFromMessage`, of what an earlier version of this server took and kept. */
export function keptBundleFromMessage(message: BundleMessage): Bundle {
  return withJwt(message, usableJwtFromMessages(message.jwtAuthorities));
}

function withJwt(message: BundleMessage, jwt: readonly JwtAuthority[]): Bundle {
  const { refreshHint, sequenceNumber } = message;
  if (refreshHint < 0n || refreshHint > BigInt(Number.MAX_SAFE_INTEGER))
    throw invalid('refresh_hint is no number of seconds');
  return makeBundle({
    trustDomain: trustDomainOf(message.trustDomain),
    x509: x509FromMessages(message.x509Authorities),
    jwt,
    sequenceNumber,
    refreshHintSeconds: Number(refreshHint),
  });
}

/** @throws Fault INVALID_ARGUMENT */
export function trustDomainOf(text: string): TrustDomain {
  try {
    return trustDomainFromText(text);
  } catch (error) {
    throw invalid(`trust domain argument is not valid: ${messageOf(error)}`);
  }
}

/** @throws Fault INVALID_ARGUMENT with the place in the list */
export function x509FromMessages(messages: readonly X509Certificate[]): X509Authority[] {
  return messages.map(({ asn1, tainted }, at) => {
    try {
      return x509Authority(asn1, tainted);
    } catch (error) {
      throw invalid(
        `unable to parse X.509 authority: x509_authorities[${at}]: ${messageOf(error)}`,
      );
    }
  });
}

/**
 * @throws Fault INVALID_ARGUMENT with the place in the list, also for a key that can verify no JWT-SVID: it would
 *   spoil the bundle for those who cannot even read it
 */
export function jwtFromMessages(messages: readonly JWTKey[]): JwtAuthority[] {
  return messages.map((message, at) => {
    const place = `unable to parse JWT authority: jwt_authorities[${at}]`;
    const authority = jwtFromMessage(message, place);
    if (!isUsable(authority, message))
      throw invalid(
        `${place}: public_key must be on P-256, P-384 or P-521, or RSA of 2048 to 8192 bits, in plain DER`,
      );
    return authority;
  });
}

/** As `jwtFromMessages`, of a server that takes keys which can verify nothing: they are left out. */
export function usableJwtFromMessages(messages: readonly JWTKey[]): JwtAuthority[] {
  return messages.flatMap((message, at) => {
    const authority = jwtFromMessage(message, `jwt_authorities[${at}]`);
    return isUsable(authority, message) ? [authority] : [];
  });
}

/** OpenSSL takes curves spelled out, compressed points and bytes that trail; others who read the bundle do not. */
function isUsable({ publicKey }: JwtAuthority, { publicKey: spki }: JWTKey): boolean {
  if (!isTokenKey(publicKey)) return false;
  const plain = createPublicKey({ key: publicKey.export({ format: 'jwk' }), format: 'jwk' });
  return spkiOf(plain).equals(spki);
}

function jwtFromMessage(
  { keyId, publicKey, expiresAt, tainted }: JWTKey,
  place: string,
): JwtAuthority {
  if (keyId === '') throw invalid(`${place}: missing key ID`);
  if (keyId.length > MAXIMUM_KEY_ID)
    throw invalid(`${place}: key ID longer than ${MAXIMUM_KEY_ID}`);
  if (expiresAt < 0n || expiresAt > LAST_SECOND)
    throw invalid(`${place}: expires_at is no Unix second up to year 9999`);
  try {
    return {
      keyId,
      publicKey: createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' }),
      expiresAt: expiresAt === 0n ? undefined : new Date(Number(expiresAt) * 1000),
      tainted,
    };
  } catch {
    throw invalid(`${place}: public_key is no PKIX public key`);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Fault ? error.message : 'malformed';
}

function invalid(message: string): Fault {
  return new Fault('INVALID_ARGUMENT', message);
}
