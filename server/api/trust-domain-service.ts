import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  BatchDeleteFederationRelationshipResponse_ResultSchema,
  TrustDomain as TrustDomainRpc,
} from '../../proto/gen/spire/api/server/trustdomain/v1/trustdomain_pb.ts';
import {
  FederationRelationshipSchema,
  type FederationRelationshipMask as Mask,
  type FederationRelationship as Message,
} from '../../proto/gen/spire/api/types/federationrelationship_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { Datastore, Reader, Transaction } from '../plugins/datastore/datastore.ts';
import { bundleMessage, trustDomainOf } from '../registry/bundle-message.ts';
import { findFederatedBundle } from '../registry/federated-bundle-rows.ts';
import type { FederationRefresh } from '../registry/federation-refresh.ts';
import {
  type FederationRelationship,
  type FederationRelationships,
  findRelationship,
  listRelationships,
  relationshipMessage,
} from '../registry/federation-relationships.ts';
import { actorOf, type Caller } from './callers.ts';
import { eachItem, ITEM_OK, type ItemStatus } from './item-status.ts';
import { masked } from './mask.ts';
import { pageOf } from './paging.ts';

export interface TrustDomainServiceOptions {
  readonly store: Datastore;
  readonly relationships: FederationRelationships;
  readonly refresh: FederationRefresh;
}

type Service = Implementation<typeof TrustDomainRpc, Caller>;
type Deleted = MessageInitShape<typeof BatchDeleteFederationRelationshipResponse_ResultSchema>;

/** The outcome of one item, of either of the two messages that have it. */
interface Put {
  readonly status: ItemStatus;
  readonly federationRelationship?: Message;
}

/** SPIRE's trust domain API. */
export function trustDomainService(options: TrustDomainServiceOptions): Service {
  return { ...readers(options), ...writers(options) };
}

function readers({ store, refresh }: TrustDomainServiceOptions) {
  return {
    async listFederationRelationships({ outputMask, pageSize, pageToken }) {
      const all = await listRelationships(store);
      const named = all.map((one) => ({ id: one.trustDomain as string, one }));
      const after = (id: string) => named.filter((candidate) => candidate.id > id);
      const page = pageOf({ pageSize, pageToken }, after);
      return {
        federationRelationships: await Promise.all(
          page.items.map(({ one }) => shown(store, one, outputMask)),
        ),
        nextPageToken: page.nextPageToken,
      };
    },

    async getFederationRelationship({ trustDomain, outputMask }) {
      const found = await findRelationship(store, trustDomainOf(trustDomain));
      if (found === undefined)
        throw new Fault('NOT_FOUND', 'federation relationship does not exist');
      return shown(store, found, outputMask);
    },

    async refreshBundle({ trustDomain }, { signal }) {
      await refresh.now(trustDomainOf(trustDomain), signal);
      return {};
    },
  } satisfies Partial<Service>;
}

function writers({ store, relationships }: TrustDomainServiceOptions) {
  const putEach = (
    messages: readonly Message[],
    caller: Caller,
    existence: 'new' | 'known',
    masks: { readonly input?: Mask | undefined; readonly output: Mask | undefined },
  ): Promise<Put[]> =>
    store.transaction((tx) =>
      eachItem(
        messages,
        async (message): Promise<Put> => {
          const wanted = await merged(tx, message, masks.input);
          const made = await relationships.put(tx, wanted, existence, actorOf(caller));
          return {
            status: ITEM_OK,
            federationRelationship: await shown(tx, made, masks.output),
          };
        },
        (status) => ({ status }),
      ),
    );

  return {
    async batchCreateFederationRelationship({ federationRelationships, outputMask }, { caller }) {
      const masks = { output: outputMask };
      return { results: await putEach(federationRelationships, caller, 'new', masks) };
    },

    async batchUpdateFederationRelationship(
      { federationRelationships, inputMask, outputMask },
      { caller },
    ) {
      const masks = { input: inputMask, output: outputMask };
      return { results: await putEach(federationRelationships, caller, 'known', masks) };
    },

    async batchDeleteFederationRelationship({ trustDomains }, { caller }) {
      const results = await store.transaction((tx) =>
        eachItem(
          trustDomains,
          async (name): Promise<Deleted> => {
            if (name === '') throw new Fault('INVALID_ARGUMENT', 'missing trust domain');
            await relationships.delete(tx, trustDomainOf(name), actorOf(caller));
            return { status: ITEM_OK, trustDomain: nameOf(name) };
          },
          (status, name) => ({ status, trustDomain: nameOf(name) }),
        ),
      );
      return { results };
    },
  } satisfies Partial<Service>;
}

/** The name of a trust domain that is given by an ID of it; what is malformed as it is. */
function nameOf(text: string): string {
  try {
    return trustDomainOf(text);
  } catch {
    return text;
  }
}

/** What the store has, with the fields of the mask in the place of its own. */
async function merged(tx: Transaction, message: Message, mask: Mask | undefined): Promise<Message> {
  if (mask === undefined) return message;
  const known = await findRelationship(tx, trustDomainOf(message.trustDomain));
  if (known === undefined) return message;
  return {
    ...relationshipMessage(known),
    ...(mask.bundleEndpointUrl && { bundleEndpointUrl: message.bundleEndpointUrl }),
    ...(mask.bundleEndpointProfile && { bundleEndpointProfile: message.bundleEndpointProfile }),
    ...(mask.trustDomainBundle &&
      message.trustDomainBundle !== undefined && { trustDomainBundle: message.trustDomainBundle }),
  };
}

async function shown(
  reader: Reader,
  relationship: FederationRelationship,
  mask: Mask | undefined,
): Promise<Message> {
  const message = relationshipMessage(relationship);
  const bundle = await findFederatedBundle(reader, relationship.trustDomain);
  if (bundle !== undefined) message.trustDomainBundle = bundleMessage(bundle);
  return masked(FederationRelationshipSchema, message, mask, ['trustDomain']);
}
