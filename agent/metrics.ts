import type { MetricsRegistry } from '../runtime/metrics.ts';

/** What an agent counts. */
export function agentMetrics(registry: MetricsRegistry) {
  return {
    svidsIssued: registry.counter(
      'writ_agent_svids_issued_total',
      'What the server issued for workloads of this agent, by kind: x509, jwt, ssh',
      ['kind'],
    ),
    syncs: registry.counter(
      'writ_agent_syncs_total',
      'Attempts to get in step with the server, by outcome: ok or failed',
      ['outcome'],
    ),
    entries: registry.gauge('writ_agent_entries', 'Registration entries that this agent may serve'),
    svidExpiry: registry.gauge(
      'writ_agent_svid_expiry_timestamp_seconds',
      "End of the agent's own SVID, in Unix seconds",
    ),
    connectionsRefused: registry.counter(
      'writ_agent_connections_refused_total',
      'Connections that ended before any call, by listener: workload, ssh_agent, health',
      ['listener'],
    ),
    workloadCalls: registry.counter(
      'writ_agent_workload_calls_total',
      'Calls on the Workload API socket that have ended, by method and gRPC status',
      ['method', 'code'],
    ),
    sshAgentRequests: registry.counter(
      'writ_agent_ssh_agent_requests_total',
      'Requests to the ssh-agent socket, by kind and outcome: ok, refused',
      ['request', 'outcome'],
    ),
  };
}

export type AgentMetrics = ReturnType<typeof agentMetrics>;
