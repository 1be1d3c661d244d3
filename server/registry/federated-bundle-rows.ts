import { fromBinary } from '@bufbuild/protobuf';
import type { Bundle } from '../../identity/bundle.ts';
import { BundleSchema } from '../../proto/gen/spire/api/types/bundle_pb.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { blob, text } from '../plugins/datastore/row.ts';
import { keptBundleFromMessage } from './bundle-message.ts';

/** Undefined if there is none. */
export async function findFederatedBundle(
  reader: Reader,
  trustDomain: string,
): Promise<Bundle | undefined> {
  const row = await reader.get(
    'select body from federated_bundles where trust_domain = ?',
    trustDomain,
  );
  return row === undefined
    ? undefined
    : keptBundleFromMessage(fromBinary(BundleSchema, blob(row, 'body')));
}

/** All of them, by trust domain. */
export async function listFederatedBundles(reader: Reader): Promise<Bundle[]> {
  const rows = await reader.all('select body from federated_bundles order by trust_domain');
  return rows.map((row) => keptBundleFromMessage(fromBinary(BundleSchema, blob(row, 'body'))));
}

/** Trust domains that entries may federate with. */
export async function federatedTrustDomains(reader: Reader): Promise<ReadonlySet<string>> {
  const rows = await reader.all('select trust_domain from federated_bundles');
  return new Set(rows.map((row) => text(row, 'trust_domain')));
}
