import { createPublicKey } from 'node:crypto';
import { Fault } from '../runtime/fault.ts';
import { type Bundle, makeBundle, x509Authority } from './bundle.ts';
import type { TrustDomain } from './spiffe-id.ts';

/** `spire.api.types.Bundle`, as far as it is read. */
export interface BundleMessage {
  readonly trustDomain: string;
  readonly x509Authorities: readonly { readonly asn1: Uint8Array; readonly tainted: boolean }[];
  readonly jwtAuthorities: readonly {
    readonly keyId: string;
    /** SubjectPublicKeyInfo, DER. */
    readonly publicKey: Uint8Array;
    /** Unix seconds, 0 for none. */
    readonly expiresAt: bigint;
    readonly tainted: boolean;
  }[];
  readonly sequenceNumber: bigint;
  /** Seconds. */
  readonly refreshHint: bigint;
}

/**
 * A trust domain's bundle as its server tells it.
 * @throws Fault `PROTOCOL_VIOLATION` if it is another trust domain's, malformed or without X.509 authority
 */
export function bundleFromMessage(message: BundleMessage, trustDomain: TrustDomain): Bundle {
  if (message.x509Authorities.length === 0) throw unusable('it has no X.509 authority');
  return foreignBundleFromMessage(message, trustDomain);
}

/**
 * The same of a trust domain that the server federates with, which may have withdrawn all authorities.
 * @throws Fault `PROTOCOL_VIOLATION`
 */
export function foreignBundleFromMessage(message: BundleMessage, trustDomain: TrustDomain): Bundle {
  if (message.trustDomain !== trustDomain) throw unusable('it is of another trust domain');
  try {
    return makeBundle({
      trustDomain,
      x509: message.x509Authorities.map(({ asn1, tainted }) => x509Authority(asn1, tainted)),
      jwt: message.jwtAuthorities.map(({ keyId, publicKey, expiresAt, tainted }) => ({
        keyId,
        publicKey: createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' }),
        expiresAt: expiresAt === 0n ? undefined : new Date(Number(expiresAt) * 1000),
        tainted,
      })),
      sequenceNumber: message.sequenceNumber,
      refreshHintSeconds: Number(message.refreshHint),
    });
  } catch (cause) {
    throw unusable('it is malformed', cause);
  }
}

function unusable(why: string, cause?: unknown): Fault {
  return new Fault('PROTOCOL_VIOLATION', `the server's bundle cannot be used: ${why}`, { cause });
}
