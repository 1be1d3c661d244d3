/** What a SPIRE server tells of itself through its own API: everything that is to move. */
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Bundle } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { TrustDomain } from '../../proto/gen/spire/api/server/trustdomain/v1/trustdomain_pb.ts';
import type { Agent as AgentMessage } from '../../proto/gen/spire/api/types/agent_pb.ts';
import type { Bundle as BundleMessage } from '../../proto/gen/spire/api/types/bundle_pb.ts';
import type { Entry as EntryMessage } from '../../proto/gen/spire/api/types/entry_pb.ts';
import type { FederationRelationship } from '../../proto/gen/spire/api/types/federationrelationship_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { RpcChannel } from '../../runtime/grpc-client.ts';

const PAGE = 500;

export interface SpireContent {
  readonly bundle: BundleMessage;
  readonly federatedBundles: readonly BundleMessage[];
  readonly relationships: readonly FederationRelationship[];
  readonly entries: readonly EntryMessage[];
  readonly agents: readonly AgentMessage[];
}

/** @param channel to the server's API socket */
export async function readSpire(channel: RpcChannel, signal: AbortSignal): Promise<SpireContent> {
  const call = { signal };
  const bundles = channel.client(Bundle);
  const trustDomains = channel.client(TrustDomain);
  const entries = channel.client(Entry);
  const agents = channel.client(Agent);
  const paged = { pageSize: PAGE };
  return {
    bundle: await bundles.getBundle({}, call),
    federatedBundles: await allPages(async (pageToken) => {
      const page = await bundles.listFederatedBundles({ ...paged, pageToken }, call);
      return { items: page.bundles, next: page.nextPageToken };
    }),
    relationships: await allPages(async (pageToken) => {
      const page = await trustDomains.listFederationRelationships({ ...paged, pageToken }, call);
      return { items: page.federationRelationships, next: page.nextPageToken };
    }),
    entries: await allPages(async (pageToken) => {
      const page = await entries.listEntries({ ...paged, pageToken }, call);
      return { items: page.entries, next: page.nextPageToken };
    }),
    agents: await allPages(async (pageToken) => {
      const page = await agents.listAgents({ ...paged, pageToken }, call);
      return { items: page.agents, next: page.nextPageToken };
    }),
  };
}

interface Page<T> {
  readonly items: readonly T[];
  /** Empty on the last one. */
  readonly next: string;
}

async function allPages<T>(read: (pageToken: string) => Promise<Page<T>>): Promise<T[]> {
  const all: T[] = [];
  let token = '';
  do {
    const page = await read(token);
    for (const item of page.items) all.push(item);
    if (page.next === token && token !== '')
      throw new Fault('PROTOCOL_VIOLATION', 'the SPIRE server answers the same page for ever');
    token = page.next;
  } while (token !== '');
  return all;
}
