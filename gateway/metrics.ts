import type { MetricsRegistry } from '../runtime/metrics.ts';

/** Why a session ended, as a metric's label. */
export type EndCause =
  | 'finished'
  | 'expired'
  | 'revoked'
  | 'stale'
  | 'recording'
  | 'budget'
  | 'stopping';

export type GatewayMetrics = ReturnType<typeof gatewayMetrics>;

/** Declares every metric of the gateway in `registry`. Labels come from closed sets, never a SPIFFE ID. */
export function gatewayMetrics(registry: MetricsRegistry) {
  return {
    connectionsRefused: registry.counter(
      'writ_gateway_connections_refused_total',
      'Connections that ended before their client had proved its SPIFFE ID, by listener: backend, health.',
      ['listener'],
    ),
    sessionsActive: registry.gauge('writ_gateway_sessions_active', 'Sessions that are open now.', [
      'backend',
    ]),
    sessionsRefused: registry.counter(
      'writ_gateway_sessions_refused_total',
      'Sessions that were asked for and not opened, by fault code.',
      ['code'],
    ),
    sessionsEnded: registry.counter(
      'writ_gateway_sessions_ended_total',
      'Sessions that ended, by cause: finished, expired, revoked, stale, recording, budget, stopping.',
      ['backend', 'cause'],
    ),
    sessionDuration: registry.histogram(
      'writ_gateway_session_duration_seconds',
      'From the opening of a session to its end.',
      ['backend'],
    ),
    backendLoginDuration: registry.histogram(
      'writ_gateway_backend_login_duration_seconds',
      'From an open session to a backend that is ready for it.',
      ['backend'],
    ),
    statements: registry.counter(
      'writ_gateway_statements_total',
      'Statements by class and whether they were let through: allowed, denied.',
      ['backend', 'class', 'outcome'],
    ),
    detections: registry.counter(
      'writ_gateway_detections_total',
      'Values that a detector or pattern found in results, by its name and action: mask, alert.',
      ['backend', 'detector', 'action'],
    ),
    sshChannels: registry.counter(
      'writ_gateway_ssh_channels_total',
      'Channels that SSH clients asked for, by kind (shell, exec, sftp, scp, other) and outcome: allowed, denied.',
      ['backend', 'kind', 'outcome'],
    ),
    recordedBytes: registry.counter(
      'writ_gateway_recorded_bytes_total',
      'Bytes written to recordings.',
    ),
    ...processMetrics(registry),
  };
}

function processMetrics(registry: MetricsRegistry) {
  return {
    revocationsApplied: registry.counter(
      'writ_gateway_revocations_applied_total',
      'Revocations received from the server.',
    ),
    serverStreams: registry.counter(
      'writ_gateway_server_streams_total',
      'Times that the stream to the server was opened.',
    ),
    workers: registry.gauge('writ_gateway_workers', 'Processes that serve clients now.'),
    workersLost: registry.counter(
      'writ_gateway_workers_lost_total',
      'Worker processes that ended while the gateway ran.',
    ),
    pendingEvents: registry.gauge(
      'writ_gateway_pending_events',
      'Audit events that the server has not accepted yet.',
    ),
  };
}
