import type { ConnectionRefusal } from '../../identity/tls.ts';
import type { RevocationView } from '../../identity/x509/crl-view.ts';
import { systemClock } from '../../runtime/clock.ts';
import type { Closers } from '../../runtime/closers.ts';
import { formatHostPort, type HostPort } from '../../runtime/config.ts';
import type { Logger } from '../../runtime/log.ts';
import type { X509Source } from '../../sdk/x509-source.ts';
import type { DeniedRequest } from '../access/gateway-audit.ts';
import type { GatewayConfig } from '../config.ts';
import type { ServingCore } from '../core.ts';
import { OwnJwtSvids } from '../credentials/own-jwt-svids.ts';
import { FollowedCrls } from '../follow-crls.ts';
import type { GatewayMetrics } from '../metrics.ts';
import type { BackendProtocol } from '../plugins/backend/backend.ts';
import { BACKEND_PROTOCOLS, type ProtocolName } from '../plugins/catalog.ts';
import type { Peers } from '../workers/peers.ts';
import { type Listening, listen } from './listen.ts';
import { listenTcp } from './listen-tcp.ts';

export interface PortParts {
  readonly source: X509Source;
  readonly core: ServingCore;
  readonly log: Logger;
  readonly metrics: GatewayMetrics;
  readonly closers: Closers;
  /** Of one protocol, where several processes serve the gateway's clients. */
  peersOf?(protocol: string): Peers;
}

/** Starts the protocols that the configuration names, each on its port. @throws Fault STATE_UNUSABLE */
export async function openPorts(
  config: GatewayConfig,
  parts: PortParts,
): Promise<Map<string, HostPort>> {
  const { source, log, metrics, closers, core, peersOf } = parts;
  const revocations = new FollowedCrls({ crls: source.crls, clock: systemClock, log });
  deferDisposal(closers, revocations);
  const { status: revocation } = revocations;
  const jwtSvids = new OwnJwtSvids(config.workload_api, source.svid.value.id);
  deferDisposal(closers, jwtSvids);
  const listeners = new Map<string, HostPort>();
  for (const [name, at] of Object.entries(config.listen)) {
    if (at === undefined) continue;
    const protocol = BACKEND_PROTOCOLS[name as ProtocolName]();
    deferDisposal(closers, protocol);
    await protocol.start({
      snapshot: core.snapshot,
      gatewayId: source.svid.value.id,
      trustDomain: config.trust_domain,
      api: core.api,
      jwtSvid: jwtSvids.fetch,
      log,
      clock: systemClock,
      metrics,
      signal: core.signal,
      stateDir: config.state_dir,
      ...(peersOf && { peers: peersOf(name) }),
    });
    const listening = await openPort(protocol, at, { ...parts, revocation });
    deferDisposal(closers, listening);
    listeners.set(name, listening.address);
    log.info({ protocol: name, address: formatHostPort(listening.address) }, 'listening');
  }
  return listeners;
}

function openPort(
  protocol: BackendProtocol,
  at: HostPort,
  parts: PortParts & { readonly revocation: RevocationView },
): Promise<Listening> {
  const { source, log, metrics, core, revocation } = parts;
  const options = {
    desk: core.desk,
    clock: systemClock,
    log,
    onRefused(refusal: ConnectionRefusal) {
      const { address, port, reason } = refusal;
      metrics.connectionsRefused.inc({ listener: 'backend' });
      log.warn({ peer_addr: address, port, reason }, 'connection refused');
      core.audit.connectionRefused(refusal);
    },
  };
  if (protocol.transport === 'tls') {
    const { svid, bundle: bundles } = source;
    return listen(protocol, at, { ...options, svid, bundles, revocation });
  }
  const onDenied = (request: DeniedRequest, reason: string) => {
    log.info(
      { peer_addr: request.address, spiffe_id: String(request.peer.id), reason },
      'login denied',
    );
    core.audit.sessionDenied(request, reason);
  };
  return listenTcp(protocol, at, { ...options, onDenied });
}

function deferDisposal(closers: Closers, what: AsyncDisposable): void {
  closers.defer(async () => {
    await what[Symbol.asyncDispose]();
  });
}
