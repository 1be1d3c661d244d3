import { access, constants, stat } from 'node:fs/promises';
import type { ConnectionRefusal } from '../identity/tls.ts';
import type { RevocationView } from '../identity/x509/crl-view.ts';
import { systemClock } from '../runtime/clock.ts';
import { Closers } from '../runtime/closers.ts';
import { formatHostPort, type HostPort } from '../runtime/config.ts';
import { Fault } from '../runtime/fault.ts';
import { serveHealth } from '../runtime/http-endpoint.ts';
import type { Logger } from '../runtime/log.ts';
import { makeDirectory } from '../runtime/make-directory.ts';
import { MetricsRegistry } from '../runtime/metrics.ts';
import { X509Source } from '../sdk/x509-source.ts';
import type { DeniedRequest } from './access/gateway-audit.ts';
import { ServerLink } from './access/server-link.ts';
import { type GatewayConfig, gatewayIdOf, loadGatewayConfig } from './config.ts';
import { type GatewayCore, startCore } from './core.ts';
import { FollowedCrls } from './follow-crls.ts';
import { type Listening, listen } from './listener/listen.ts';
import { listenTcp } from './listener/listen-tcp.ts';
import { type GatewayMetrics, gatewayMetrics } from './metrics.ts';
import type { BackendProtocol } from './plugins/backend/backend.ts';
import { BACKEND_PROTOCOLS, type ProtocolName } from './plugins/catalog.ts';

export { loadGatewayConfig };

/** As in package.json. */
export const GATEWAY_VERSION = '0.1.0';

export interface RunGatewayOptions {
  /** Its abort begins a graceful stop. */
  readonly signal: AbortSignal;
  readonly log: Logger;
  /** Called once all ports are open; sessions can be had when the health endpoint says so. */
  onReady?(at: GatewayAddresses): void;
}

export interface GatewayAddresses {
  /** By protocol. */
  readonly listeners: ReadonlyMap<string, HostPort>;
  /** `host:port` */
  readonly health: string;
}

const STOPPING = 'the gateway is stopping';
const WRITABLE_BY_OTHERS = 0o022;

/**
 * Runs a gateway until `signal` aborts and all is closed.
 * @throws Fault STATE_UNUSABLE, UNAVAILABLE
 */
export async function runGateway(
  config: GatewayConfig,
  { signal, log, onReady }: RunGatewayOptions,
): Promise<void> {
  await using closers = new Closers();
  await prepareStateDir(config.state_dir);
  const registry = new MetricsRegistry();
  const metrics = gatewayMetrics(registry);
  let ready = (): true | string => 'no X509-SVID from the agent yet';
  const health = await serveHealth({
    listen: config.health,
    ready: () => ready(),
    metrics: registry,
    onRefused: () => metrics.connectionsRefused.inc({ listener: 'health' }),
  });
  deferDisposal(closers, health);
  const source = await connectSource(config, { signal, log });
  if (source === undefined) return;
  deferDisposal(closers, source);
  log.info({ spiffe_id: String(source.svid.value.id) }, 'X509-SVID received');

  const core = await startLinkedCore(config, { source, log, metrics, closers });
  ready = () => svidReadiness(source) ?? core.ready();
  const listeners = await openPorts(config, { source, log, metrics, closers, core });
  onReady?.({ listeners, health: health.address });
  await aborted(signal);
  log.info('gateway stops');
  ready = () => STOPPING;
  await core.stop(STOPPING);
}

interface Parts {
  readonly source: X509Source;
  readonly log: Logger;
  readonly metrics: GatewayMetrics;
  readonly closers: Closers;
}

async function startLinkedCore(
  config: GatewayConfig,
  { source, log, metrics, closers }: Parts,
): Promise<GatewayCore> {
  const { svid, bundle } = source;
  const address = formatHostPort(config.server);
  const link = new ServerLink({ address, svid, bundle, clock: systemClock });
  deferDisposal(closers, link);
  const { sessions: total, sessions_per_identity: perIdentity } = config.limits;
  const core = await startCore({
    version: GATEWAY_VERSION,
    ports: portsOf(config),
    stateDir: config.state_dir,
    limits: { total, perIdentity },
    api: () => link.api,
    clock: systemClock,
    log,
    metrics,
  });
  closers.defer(() => core.stop(STOPPING));
  const following = new AbortController();
  const followed = link.follow(following.signal, () => core.reconnect());
  closers.defer(async () => {
    following.abort();
    await followed;
  });
  return core;
}

/** What the server tells clients to come to; a port that is chosen at the start is nobody's to know. */
function portsOf(config: GatewayConfig): Record<string, number> {
  const ports = Object.entries(config.listen).map(([name, at]) => [name, at?.port ?? 0] as const);
  return Object.fromEntries(ports.filter(([, port]) => port !== 0));
}

type PortParts = Parts & { readonly core: GatewayCore };

async function openPorts(config: GatewayConfig, parts: PortParts): Promise<Map<string, HostPort>> {
  const { source, log, metrics, closers, core } = parts;
  const revocations = new FollowedCrls({ crls: source.crls, clock: systemClock, log });
  deferDisposal(closers, revocations);
  const { status: revocation } = revocations;
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
      log,
      clock: systemClock,
      metrics,
      signal: core.signal,
      stateDir: config.state_dir,
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

/** Waits for the gateway's own SVID; undefined if the gateway is to stop before there is one. */
async function connectSource(
  config: GatewayConfig,
  { signal, log }: RunGatewayOptions,
): Promise<X509Source | undefined> {
  const spiffeId = gatewayIdOf(config);
  try {
    return await X509Source.connect({
      endpoint: `unix://${config.workload_api}`,
      spiffeId,
      signal,
      log,
    });
  } catch (error) {
    if (signal.aborted) return undefined;
    const message = `the agent gives this process no X509-SVID of ${spiffeId}`;
    throw new Fault('UNAVAILABLE', message, { cause: error });
  }
}

function svidReadiness(source: X509Source): string | undefined {
  return source.svid.value.notAfter > systemClock.now()
    ? undefined
    : "the gateway's X509-SVID has expired";
}

async function prepareStateDir(directory: string): Promise<void> {
  let mode: number;
  try {
    await makeDirectory(directory, 0o700);
    await access(directory, constants.W_OK);
    mode = (await stat(directory)).mode;
  } catch (error) {
    const message = `the state directory ${directory} cannot be written`;
    throw new Fault('STATE_UNUSABLE', message, { cause: error });
  }
  if ((mode & WRITABLE_BY_OTHERS) === 0) return;
  throw new Fault('STATE_UNUSABLE', `others may write to the state directory ${directory}`);
}

function deferDisposal(closers: Closers, what: AsyncDisposable): void {
  closers.defer(async () => {
    await what[Symbol.asyncDispose]();
  });
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
