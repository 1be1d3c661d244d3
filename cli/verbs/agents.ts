/** `writ agent list|show|ban|evict`: attested nodes, over SPIRE's Agent service. */
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { AgentRegistryService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { agentRecord, idMessage } from '../spire-text.ts';
import { printRecord, printTable } from '../table.ts';
import type { Verb } from '../verb.ts';

const json = { json: { type: 'boolean', default: false } } as const;

export const agentList: Verb = {
  path: ['agent', 'list'],
  positionals: [],
  summary: 'List the attested agents',
  options: json,
  async run(flags, io) {
    const { agents } = await io.admin(Agent).listAgents({}, { signal: io.signal });
    const columns = ['id', 'attestation_type', 'expires_at', 'banned'];
    printTable(io, agents.map(agentRecord), columns, flags.json === true);
  },
};

export const agentShow: Verb = {
  path: ['agent', 'show'],
  positionals: ['SPIFFE_ID'],
  summary: 'Show one agent, or with --reach everything that it could be served',
  options: { ...json, reach: { type: 'boolean', default: false } },
  async run(flags, io, [id = '']) {
    if (flags.reach === true) {
      const { entries } = await io
        .admin(AgentRegistryService)
        .getReach({ agentId: id }, { signal: io.signal });
      const rows = entries.map(({ spiffeId, grants, through, entryId }) => ({
        ...{ spiffe_id: spiffeId, grants: grants.join(' ') },
        ...{ through: through.join(' '), entry: entryId },
      }));
      printTable(io, rows, ['spiffe_id', 'grants', 'through', 'entry'], flags.json === true);
      return;
    }
    const agent = await io.admin(Agent).getAgent({ id: idMessage(id) }, { signal: io.signal });
    printRecord(io, agentRecord(agent), flags.json === true);
  },
};

export const agentBan: Verb = {
  path: ['agent', 'ban'],
  positionals: ['SPIFFE_ID'],
  summary: 'Bar an agent for good and end every session of its workloads',
  options: {},
  async run(_flags, io, [id = '']) {
    await io.admin(Agent).banAgent({ id: idMessage(id) }, { signal: io.signal });
    io.err(`banned ${id}`);
  },
};

export const agentEvict: Verb = {
  path: ['agent', 'evict'],
  positionals: ['SPIFFE_ID'],
  summary: 'Forget an agent; it may attest again',
  options: {},
  async run(_flags, io, [id = '']) {
    await io.admin(Agent).deleteAgent({ id: idMessage(id) }, { signal: io.signal });
    io.err(`evicted ${id}`);
  },
};
