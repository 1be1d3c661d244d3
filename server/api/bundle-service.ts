import { create } from '@bufbuild/protobuf';
import type { Bundle } from '../../identity/bundle.ts';
import { spkiOf } from '../../identity/x509/key.ts';
import type { Bundle as BundleRpc } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { type BundleMask, BundleSchema } from '../../proto/gen/spire/api/types/bundle_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { WatchedSource } from '../../runtime/watched.ts';
import type { Caller } from './callers.ts';
import { masked } from './mask.ts';

/** SPIRE's bundle API. This server federates with nobody, so its own bundle is the only one. */
export function bundleService({
  bundle,
}: {
  readonly bundle: WatchedSource<Bundle>;
}): Partial<Implementation<typeof BundleRpc, Caller>> {
  return {
    async getBundle({ outputMask }) {
      return bundleMessage(bundle.value, outputMask);
    },

    async countBundles() {
      return { count: 1 };
    },

    async listFederatedBundles() {
      return { bundles: [], nextPageToken: '' };
    },

    async getFederatedBundle({ trustDomain }) {
      if (trustDomain === bundle.value.trustDomain)
        throw new Fault('INVALID_ARGUMENT', "the server's own bundle is not a federated one");
      throw new Fault('NOT_FOUND', 'bundle not found');
    },
  };
}

function bundleMessage(bundle: Bundle, mask: BundleMask | undefined) {
  const message = create(BundleSchema, {
    trustDomain: bundle.trustDomain,
    x509Authorities: bundle.x509Authorities.map(({ der, tainted }) => ({ asn1: der, tainted })),
    jwtAuthorities: bundle.jwtAuthorities.map(({ keyId, publicKey, expiresAt, tainted }) => ({
      publicKey: spkiOf(publicKey),
      keyId,
      expiresAt: expiresAt === undefined ? 0n : BigInt(Math.floor(expiresAt.getTime() / 1000)),
      tainted,
    })),
    refreshHint: BigInt(bundle.refreshHintSeconds),
    sequenceNumber: bundle.sequenceNumber,
  });
  return masked(BundleSchema, message, mask, ['trustDomain']);
}
