import type { TrustDomain } from '../../identity/spiffe-id.ts';
import type { AgentRegistryService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import type { Grant } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import { isLive } from '../access/choose-grant.ts';
import { listGrants } from '../access/resources.ts';
import { findAgent } from '../attestation/agent-records.ts';
import { type ImportAgentsOptions, importAgents } from '../attestation/import-agents.ts';
import type { Datastore } from '../plugins/datastore/datastore.ts';
import { type EntryIndex, idText } from '../registry/entry-index.ts';
import { withoutToken } from '../registry/join-token-ids.ts';
import { memberIdFromText } from '../registry/spiffe-id-message.ts';
import { actorOf, type Caller } from './callers.ts';

export interface AgentRegistryServiceOptions extends ImportAgentsOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly index: EntryIndex;
  readonly trustDomain: TrustDomain;
}

/** What operators ask of nodes beyond SPIRE's API. */
export function agentRegistryService(
  options: AgentRegistryServiceOptions,
): Implementation<typeof AgentRegistryService, Caller> {
  const { store, clock, index, trustDomain } = options;
  return {
    async getReach({ agentId }) {
      const id = withoutToken(memberIdFromText(agentId, trustDomain, 'agent_id'));
      const agent = await findAgent(store, id);
      if (agent === undefined) throw new Fault('NOT_FOUND', 'agent not found');
      const now = clock.now();
      const grants = (await listGrants(store)).filter((grant) => isLive(grant, now));
      const reached = agent.isBanned ? [] : index.reachOf(agent, now);
      return {
        entries: reached.map(({ entry, through }) => ({
          entryId: entry.id,
          spiffeId: idText(entry.spiffeId),
          through: [...through],
          grants: grantsOf(grants, idText(entry.spiffeId)),
        })),
      };
    },

    async importAgents({ agents }, { caller }) {
      const outcomes = await importAgents(options, agents, actorOf(caller));
      return { results: outcomes.map((outcome) => ({ outcome })) };
    },
  };
}

function grantsOf(grants: readonly Grant[], spiffeId: string): string[] {
  return grants.filter(({ identity }) => identity === spiffeId).map(({ name }) => name);
}
