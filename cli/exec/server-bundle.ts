import { createHash, createPublicKey } from 'node:crypto';
import { type Bundle, makeBundle, x509Authority } from '../../identity/bundle.ts';
import { parseTrustDomain } from '../../identity/spiffe-id.ts';
import { Bundle as BundleService } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import type { Bundle as BundleMessage } from '../../proto/gen/spire/api/types/bundle_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { RpcChannel } from '../../runtime/grpc-client.ts';

/** A bundle as a server tells it. @throws Fault PROTOCOL_VIOLATION if it cannot be used */
export function bundleOf(message: BundleMessage): Bundle {
  try {
    if (message.x509Authorities.length === 0) throw new Error('no X.509 authority');
    return makeBundle({
      trustDomain: parseTrustDomain(message.trustDomain),
      x509: message.x509Authorities.map(({ asn1, tainted }) => x509Authority(asn1, tainted)),
      jwt: message.jwtAuthorities.map(({ keyId, publicKey, expiresAt, tainted }) => ({
        keyId,
        publicKey: createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' }),
        expiresAt: expiresAt === 0n ? undefined : new Date(Number(expiresAt) * 1000),
        tainted,
      })),
    });
  } catch (cause) {
    throw new Fault('PROTOCOL_VIOLATION', 'the server’s bundle cannot be used', { cause });
  }
}

/**
 * The roots that have one of the pins, as a server that nobody has vouched for yet tells them: whoever
 * answers has still to prove itself under them.
 * @param pins lower-case hex SHA-256 of roots' DER
 * @throws Fault ATTESTATION_DENIED if no root has one; `RpcError` if there is no answer
 */
export async function pinnedBundle(
  server: string,
  pins: readonly string[],
  signal: AbortSignal,
): Promise<Bundle> {
  await using channel = RpcChannel.unverifiedTls(server);
  const shown = bundleOf(await channel.client(BundleService).getBundle({}, { signal }));
  const x509 = shown.x509Authorities.filter(({ der }) => pins.includes(sha256(der)));
  if (x509.length > 0) return makeBundle({ trustDomain: shown.trustDomain, x509 });
  const message = `the server at ${server} is not the one of this bundle or fingerprint`;
  throw new Fault('ATTESTATION_DENIED', message);
}

export function sha256(der: Uint8Array): string {
  return createHash('sha256').update(der).digest('hex');
}
