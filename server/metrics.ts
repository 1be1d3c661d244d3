import type { MetricsRegistry } from '../runtime/metrics.ts';

export type ServerMetrics = ReturnType<typeof serverMetrics>;

/** Declares every metric of the server in `registry`. Labels come from closed sets, never a SPIFFE ID. */
export function serverMetrics(registry: MetricsRegistry) {
  return {
    svidsIssued: registry.counter(
      'writ_server_svids_issued_total',
      'SVIDs and SSH certificates that were signed and are in the ledger, by kind: x509, jwt, agent, server, ssh-user, ssh-host, ssh-gateway.',
      ['kind'],
    ),
    rpcs: registry.counter(
      'writ_server_rpcs_total',
      'RPCs that have ended, refused ones too, by method and gRPC status.',
      ['method', 'code'],
    ),
    rpcDuration: registry.histogram(
      'writ_server_rpc_duration_seconds',
      'From the first byte of an RPC to its end; streams last as long as their caller wants.',
      ['method'],
    ),
    connectionsRefused: registry.counter(
      'writ_server_connections_refused_total',
      'Connections that ended before any call, by listener: tls, admin, health, crl.',
      ['listener'],
    ),
    entries: registry.gauge('writ_server_entries', 'Registration entries.'),
    auditEvents: registry.gauge(
      'writ_server_audit_events',
      'Position of the newest event in the audit log.',
    ),
    loopDelay: registry.gauge(
      'writ_server_event_loop_delay_max_seconds',
      'Longest that one turn of the event loop kept all else waiting, within 5 ms above, by window: the last 1s, the last 1m.',
      ['window'],
    ),
  };
}
