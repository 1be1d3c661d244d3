import { createHash } from 'node:crypto';
import { type Bundle, makeBundle } from '../../identity/bundle.ts';
import { bundleFromMessage } from '../../identity/bundle-message.ts';
import { parseTrustDomain } from '../../identity/spiffe-id.ts';
import { Bundle as BundleService } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { RpcChannel } from '../../runtime/grpc-client.ts';

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
  const message = await channel.client(BundleService).getBundle({}, { signal });
  const shown = bundleFromMessage(message, parseTrustDomain(message.trustDomain));
  const x509 = shown.x509Authorities.filter(({ der }) => pins.includes(sha256(der)));
  if (x509.length > 0) return makeBundle({ trustDomain: shown.trustDomain, x509 });
  const why = `the server at ${server} is not the one of this bundle or fingerprint`;
  throw new Fault('ATTESTATION_DENIED', why);
}

export function sha256(der: Uint8Array): string {
  return createHash('sha256').update(der).digest('hex');
}
