import type { MessageInitShape } from '@bufbuild/protobuf';
import type { Bundle } from '../../identity/bundle.ts';
import type {
  BatchDeleteFederatedBundleResponse_ResultSchema,
  Bundle as BundleRpc,
} from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { BatchDeleteFederatedBundleRequest_Mode as Mode } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import {
  type BundleMask,
  type Bundle as BundleMessage,
  BundleSchema,
} from '../../proto/gen/spire/api/types/bundle_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { WatchedSource } from '../../runtime/watched.ts';
import type { Authority } from '../authority/authority.ts';
import type { Datastore, Transaction } from '../plugins/datastore/datastore.ts';
import {
  bundleFromMessage,
  bundleMessage,
  jwtFromMessages,
  trustDomainOf,
  x509FromMessages,
} from '../registry/bundle-message.ts';
import { findFederatedBundle, listFederatedBundles } from '../registry/federated-bundle-rows.ts';
import type { EntriesMode, Existence, FederatedBundles } from '../registry/federated-bundles.ts';
import { actorOf, type Caller } from './callers.ts';
import { eachItem, ITEM_OK, type ItemStatus } from './item-status.ts';
import { masked } from './mask.ts';
import { pageOf } from './paging.ts';

export interface BundleServiceOptions {
  readonly store: Datastore;
  /** The trust domain's own. */
  readonly bundle: WatchedSource<Bundle>;
  readonly authority: Authority;
  readonly federatedBundles: FederatedBundles;
}

type Service = Implementation<typeof BundleRpc, Caller>;

/** The outcome of one item, of whichever of the three messages that have it. */
interface Put {
  readonly status: ItemStatus;
  readonly bundle?: BundleMessage;
}

type Deleted = MessageInitShape<typeof BatchDeleteFederatedBundleResponse_ResultSchema>;

const MODES: Readonly<Record<number, EntriesMode>> = {
  [Mode.RESTRICT]: 'restrict',
  [Mode.DELETE]: 'delete',
  [Mode.DISSOCIATE]: 'dissociate',
};

/** SPIRE's bundle API, but for what nested servers publish. */
export function bundleService(options: BundleServiceOptions): Partial<Service> {
  return { ...ownBundle(options), ...readers(options), ...writers(options) };
}

function ownBundle({ store, bundle, authority }: BundleServiceOptions) {
  return {
    async getBundle({ outputMask }) {
      return shown(bundle.value, outputMask);
    },

    async appendBundle({ x509Authorities, jwtAuthorities, outputMask }, { caller }) {
      const added = {
        x509: x509FromMessages(x509Authorities),
        jwt: jwtFromMessages(jwtAuthorities),
      };
      if (added.x509.length + added.jwt.length === 0)
        throw new Fault('INVALID_ARGUMENT', 'no authorities to append');
      const appended = await store.transaction((tx) =>
        authority.appendAuthorities(tx, added, actorOf(caller)),
      );
      return shown(appended, outputMask);
    },
  } satisfies Partial<Service>;
}

function readers({ store, bundle }: BundleServiceOptions) {
  return {
    async countBundles() {
      return { count: 1 + (await listFederatedBundles(store)).length };
    },

    async listFederatedBundles({ outputMask, pageSize, pageToken }) {
      const all = await listFederatedBundles(store);
      const named = all.map((one) => ({ id: one.trustDomain as string, one }));
      const after = (id: string) => named.filter((candidate) => candidate.id > id);
      const page = pageOf({ pageSize, pageToken }, after);
      return {
        bundles: page.items.map(({ one }) => shown(one, outputMask)),
        nextPageToken: page.nextPageToken,
      };
    },

    async getFederatedBundle({ trustDomain, outputMask }) {
      const wanted = trustDomainOf(trustDomain);
      if (wanted === bundle.value.trustDomain)
        throw new Fault(
          'INVALID_ARGUMENT',
          "getting a federated bundle for the server's own trust domain is not allowed",
        );
      const found = await findFederatedBundle(store, wanted);
      if (found === undefined) throw new Fault('NOT_FOUND', 'bundle not found');
      return shown(found, outputMask);
    },
  } satisfies Partial<Service>;
}

function writers({ store, federatedBundles }: BundleServiceOptions) {
  const putEach = async (
    messages: readonly BundleMessage[],
    caller: Caller,
    how: {
      readonly existence: Existence;
      readonly input?: BundleMask;
      readonly output?: BundleMask;
    },
  ): Promise<Put[]> => {
    const actor = actorOf(caller);
    return store.transaction((tx) =>
      eachItem(
        messages,
        async (message): Promise<Put> => {
          const bundle = bundleFromMessage(await merged(tx, message, how.input));
          await federatedBundles.put(tx, bundle, how.existence, actor);
          return { status: ITEM_OK, bundle: shown(bundle, how.output) };
        },
        (status) => ({ status }),
      ),
    );
  };

  return {
    async batchCreateFederatedBundle({ bundle, outputMask: output }, { caller }) {
      return { results: await putEach(bundle, caller, { existence: 'new', ...given({ output }) }) };
    },

    async batchUpdateFederatedBundle({ bundle, inputMask, outputMask }, { caller }) {
      const masks = given({ input: inputMask, output: outputMask });
      return { results: await putEach(bundle, caller, { existence: 'known', ...masks }) };
    },

    async batchSetFederatedBundle({ bundle, outputMask: output }, { caller }) {
      return { results: await putEach(bundle, caller, { existence: 'any', ...given({ output }) }) };
    },

    async batchDeleteFederatedBundle({ trustDomains, mode }, { caller }) {
      const entriesMode = MODES[mode];
      if (entriesMode === undefined) throw new Fault('INVALID_ARGUMENT', 'unknown mode');
      const actor = actorOf(caller);
      const results = await store.transaction((tx) =>
        eachItem(
          trustDomains,
          async (name): Promise<Deleted> => {
            await federatedBundles.delete(tx, trustDomainOf(name), entriesMode, actor);
            return { status: ITEM_OK, trustDomain: name };
          },
          (status, name) => ({ status, trustDomain: name }),
        ),
      );
      return { results };
    },
  } satisfies Partial<Service>;
}

/** What the store has, with the fields of the mask in the place of its own. */
async function merged(
  tx: Transaction,
  message: BundleMessage,
  mask: BundleMask | undefined,
): Promise<BundleMessage> {
  if (mask === undefined) return message;
  const known = await findFederatedBundle(tx, trustDomainOf(message.trustDomain));
  if (known === undefined) return message;
  const kept = bundleMessage(known);
  return {
    ...kept,
    ...(mask.x509Authorities && { x509Authorities: message.x509Authorities }),
    ...(mask.jwtAuthorities && { jwtAuthorities: message.jwtAuthorities }),
    ...(mask.refreshHint && { refreshHint: message.refreshHint }),
    ...(mask.sequenceNumber && { sequenceNumber: message.sequenceNumber }),
  };
}

function given<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

function shown(bundle: Bundle, mask: BundleMask | undefined): BundleMessage {
  return masked(BundleSchema, bundleMessage(bundle), mask, ['trustDomain']);
}
