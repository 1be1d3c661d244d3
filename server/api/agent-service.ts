import { create } from '@bufbuild/protobuf';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import type {
  Agent as AgentRpc,
  ListAgentsRequest_Filter as Filter,
} from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import {
  type Agent,
  type AgentMask,
  AgentSchema,
} from '../../proto/gen/spire/api/types/agent_pb.ts';
import type { SPIFFEID } from '../../proto/gen/spire/api/types/spiffeid_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import { type AgentRecord, findAgent, listAgents } from '../attestation/agent-records.ts';
import type { Agents } from '../attestation/agents.ts';
import { type NodeAttestation, withoutPort } from '../attestation/attest-agent.ts';
import type { JoinTokens } from '../attestation/join-tokens.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { selectorPredicate } from '../registry/entry-filters.ts';
import { withoutToken } from '../registry/join-token-ids.ts';
import { idMessage, memberId } from '../registry/spiffe-id-message.ts';
import { actorOf, type Caller } from './callers.ts';
import { agentOf } from './entry-service.ts';
import { masked } from './mask.ts';
import { pageOf } from './paging.ts';
import { StreamLimit } from './stream-limit.ts';

export interface AgentServiceOptions {
  readonly reader: Reader;
  readonly agents: Agents;
  readonly attestation: NodeAttestation;
  readonly joinTokens: JoinTokens;
  readonly trustDomain: TrustDomain;
}

type Service = Implementation<typeof AgentRpc, Caller>;

/** SPIRE's agent API. */
export function agentService(options: AgentServiceOptions): Service {
  return { ...forOperators(options), ...forNodes(options) };
}

function forOperators({ reader, agents, joinTokens, trustDomain }: AgentServiceOptions) {
  const wanted = async (filter: AgentFilter | undefined) => {
    const isWanted = agentPredicate(filter);
    return (await listAgents(reader)).filter(isWanted);
  };
  const idOf = (id: SPIFFEID | undefined) => agentId(id, trustDomain);

  return {
    async countAgents({ filter }) {
      return { count: (await wanted(filter)).length };
    },

    async listAgents({ filter, outputMask, pageSize, pageToken }) {
      const records = await wanted(filter);
      const page = pageOf({ pageSize, pageToken }, (id) => records.filter((one) => one.id > id));
      return {
        agents: page.items.map((record) => agentMessage(record, outputMask)),
        nextPageToken: page.nextPageToken,
      };
    },

    async getAgent({ id, outputMask }) {
      const record = await findAgent(reader, idOf(id));
      if (record === undefined) throw new Fault('NOT_FOUND', 'agent not found');
      return agentMessage(record, outputMask);
    },

    async deleteAgent({ id }, { caller }) {
      await agents.evict(idOf(id), actorOf(caller));
      return {};
    },

    async banAgent({ id }, { caller }) {
      await agents.ban(idOf(id), actorOf(caller));
      return {};
    },

    async createJoinToken({ ttl, token, agentId: alias }, { caller }) {
      if (ttl < 1) throw new Fault('INVALID_ARGUMENT', 'ttl is required, you must provide one');
      const minted = await joinTokens.create(
        {
          ttlSeconds: ttl,
          ...(token !== '' && { token }),
          ...(alias !== undefined && { alias: memberId(alias, trustDomain, 'agent_id') }),
        },
        actorOf(caller),
      );
      return { value: minted.token, expiresAt: unixSeconds(minted.expiresAt) };
    },
  } satisfies Partial<Service>;
}

/** Many nodes may start at once behind one address; each takes well under a second. */
const ATTESTATIONS_PER_ADDRESS = 128;

function forNodes({ agents, attestation }: AgentServiceOptions) {
  const limit = new StreamLimit(ATTESTATIONS_PER_ADDRESS);
  return {
    attestAgent(requests, { caller, signal }) {
      const from = addressOf(caller);
      return limit.hold(withoutPort(from), () =>
        attestation.attest(requests, { from, signal, requestId: caller.requestId }),
      );
    },

    async renewAgent({ params }, { caller }) {
      if (params === undefined || params.csr.length === 0)
        throw new Fault('INVALID_ARGUMENT', 'missing CSR');
      const { record, id } = agentOf(caller);
      return attestation.renew(record, params.csr, { id, requestId: caller.requestId });
    },

    async postStatus({ agentVersion }, { caller }) {
      await agents.setVersion(agentOf(caller).record.id, agentVersion);
      return {};
    },
  } satisfies Partial<Service>;
}

/** A filter without the name of its message: listing and counting have one each. */
type AgentFilter = Omit<Filter, '$typeName'>;

type AgentPredicate = (agent: AgentRecord) => boolean;

function agentPredicate(filter: AgentFilter | undefined): AgentPredicate {
  if (filter === undefined) return () => true;
  const { byAttestationType, bySelectorMatch, byBanned, byCanReattest, byExpiresBefore } = filter;
  const conditions: AgentPredicate[] = [];
  if (byAttestationType !== '')
    conditions.push(({ attestationType }) => attestationType === byAttestationType);
  if (bySelectorMatch !== undefined) {
    const matches = selectorPredicate(bySelectorMatch);
    conditions.push(({ selectors }) => matches(selectors));
  }
  if (byBanned !== undefined) conditions.push(({ isBanned }) => isBanned === byBanned);
  if (byCanReattest !== undefined)
    conditions.push(({ canReattest }) => canReattest === byCanReattest);
  if (byExpiresBefore !== '') {
    const before = parseInstant(byExpiresBefore);
    conditions.push(({ expiresAt }) => expiresAt < before);
  }
  return (agent) => conditions.every((holds) => holds(agent));
}

const INSTANT = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) ([+-]\d\d)(\d\d) \S{1,8}$/;

/** The form that SPIRE's CLI sends: `2006-01-02 15:04:05 -0700 -07`. */
function parseInstant(text: string): Date {
  const [, date, time, hours, minutes] = INSTANT.exec(text) ?? [];
  const instant = new Date(`${date}T${time}${hours}:${minutes}`);
  if (Number.isNaN(instant.getTime()))
    throw new Fault('INVALID_ARGUMENT', 'by_expires_before: write 2006-01-02 15:04:05 -0700 -07');
  return instant;
}

function agentMessage(record: AgentRecord, mask: AgentMask | undefined): Agent {
  const message = create(AgentSchema, {
    id: idMessage(SpiffeId.parse(record.id)),
    attestationType: record.attestationType,
    // SPIRE shows serials in decimal.
    x509svidSerialNumber: record.serial === '' ? '' : BigInt(`0x${record.serial}`).toString(),
    x509svidExpiresAt: unixSeconds(record.expiresAt),
    selectors: record.selectors.map(({ type, value }) => ({ type, value })),
    banned: record.isBanned,
    canReattest: record.canReattest,
    agentVersion: record.version,
  });
  return masked(AgentSchema, message, mask, ['id']);
}

function agentId(id: SPIFFEID | undefined, trustDomain: TrustDomain): string {
  const parsed = withoutToken(memberId(id, trustDomain, 'agent ID'));
  if (!parsed.path.startsWith('/spire/agent/'))
    throw new Fault('INVALID_ARGUMENT', 'not an agent ID');
  return parsed.toString();
}

function addressOf(caller: Caller): string {
  return caller.kind === 'local' ? `uid:${caller.uid}` : caller.address;
}

function unixSeconds(at: Date): bigint {
  return BigInt(Math.floor(at.getTime() / 1000));
}
