import { access, constants, stat } from 'node:fs/promises';
import { systemClock } from '../runtime/clock.ts';
import { Closers } from '../runtime/closers.ts';
import { formatHostPort, type HostPort } from '../runtime/config.ts';
import { Fault } from '../runtime/fault.ts';
import { serveHealth } from '../runtime/http-endpoint.ts';
import type { Logger } from '../runtime/log.ts';
import { makeDirectory } from '../runtime/make-directory.ts';
import { MetricsRegistry, type Samples } from '../runtime/metrics.ts';
import type { X509Source } from '../sdk/x509-source.ts';
import { ServerLink } from './access/server-link.ts';
import { type GatewayConfig, loadGatewayConfig } from './config.ts';
import { type ControlOptions, startControl } from './control.ts';
import { budgetsIn, openRecordings, startCore } from './core.ts';
import { openPorts } from './listener/open-ports.ts';
import { type GatewayMetrics, gatewayMetrics } from './metrics.ts';
import { connectSource, svidUnreadiness } from './own-svid.ts';
import { loadGatewayKeys } from './recording/gateway-keys.ts';
import { DayUses } from './session/day-use.ts';
import { warnOfUnprovedNames } from './unproved-names.ts';
import { Workers } from './workers/start-workers.ts';

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
  let samples = (): Samples[] => [];
  const health = await serveHealth({
    listen: config.health,
    ready: () => ready(),
    metrics: { render: () => registry.render(samples()) },
    onRefused: () => metrics.connectionsRefused.inc({ listener: 'health' }),
  });
  deferDisposal(closers, health);
  const source = await connectSource(config, { signal, log });
  if (source === undefined) return;
  deferDisposal(closers, source);
  log.info({ spiffe_id: String(source.svid.value.id) }, 'X509-SVID received');

  const start = config.workers === 1 ? startAlone : startWithWorkers;
  const gateway = await start(config, { source, log, metrics, registry, closers, signal });
  ready = () => svidUnreadiness(source) ?? gateway.ready();
  samples = () => gateway.samples();
  if (!signal.aborted) onReady?.({ listeners: gateway.listeners, health: health.address });
  await aborted(signal);
  log.info('gateway stops');
  ready = () => STOPPING;
  await gateway.stop();
}

interface Parts {
  readonly source: X509Source;
  readonly log: Logger;
  readonly metrics: GatewayMetrics;
  readonly registry: MetricsRegistry;
  readonly closers: Closers;
  readonly signal: AbortSignal;
}

/** What serves the clients. */
interface Serving {
  readonly listeners: ReadonlyMap<string, HostPort>;
  ready(): true | string;
  /** Of its other processes. */
  samples(): Samples[];
  stop(): Promise<void>;
}

/** In this process. */
async function startAlone(config: GatewayConfig, parts: Parts): Promise<Serving> {
  const { closers, metrics, log, source } = parts;
  const linked = openLink(config, parts);
  const core = await startCore(linked.options);
  closers.defer(() => core.stop(STOPPING));
  const { snapshot } = core;
  deferDisposal(closers, warnOfUnprovedNames({ snapshot, svid: source.svid, log }));
  linked.follow(() => core.reconnect());
  const listeners = await openPorts(config, { ...parts, core });
  metrics.workers.set(1);
  return {
    listeners,
    ready: () => core.ready(),
    samples: () => [],
    stop: () => core.stop(STOPPING),
  };
}

/** In as many processes as are configured; what there is once stays in this one. */
async function startWithWorkers(config: GatewayConfig, parts: Parts): Promise<Serving> {
  const { closers, log, metrics, registry, signal, source } = parts;
  const clock = systemClock;
  const linked = openLink(config, parts);
  const keys = await loadGatewayKeys(config.state_dir);
  const recordings = openRecordings(config.state_dir, { key: keys.recording, clock });
  DayUses.removeOld({ directory: budgetsIn(config.state_dir), clock });
  const control = startControl({
    ...linked.options,
    recordings,
    onSnapshot: (message) => workers.snapshot(message),
  });
  closers.defer(() => control.stop(STOPPING));
  const { snapshot } = control;
  deferDisposal(closers, warnOfUnprovedNames({ snapshot, svid: source.svid, log }));
  const gauges = registry.describe().filter(({ type }) => type === 'gauge');
  const workers = new Workers({
    ...{ config, control, clock, log, metrics },
    gauges: new Set(gauges.map(({ name }) => name)),
  });
  const stop = async () => {
    control.endSessions(STOPPING);
    await workers.stop();
    await control.stop(STOPPING);
  };
  closers.defer(stop);
  linked.follow(() => control.reconnect());
  const listeners = await workers.start(signal);
  return {
    listeners,
    ready: () => {
      const isReady = control.ready();
      return isReady === true ? workers.ready() : isReady;
    },
    samples: () => workers.samples(),
    stop,
  };
}

type LinkedOptions = Omit<ControlOptions, 'recordings' | 'onSnapshot'>;

/** The channel to the server, and what of the configuration whoever uses it needs. */
function openLink(
  config: GatewayConfig,
  { source, log, metrics, closers }: Parts,
): { readonly options: LinkedOptions; follow(replaced: () => void): void } {
  const { svid, bundle } = source;
  const address = formatHostPort(config.server);
  const link = new ServerLink({ address, svid, bundle, clock: systemClock });
  deferDisposal(closers, link);
  const { sessions: total, sessions_per_identity: perIdentity } = config.limits;
  return {
    options: {
      version: GATEWAY_VERSION,
      ports: portsOf(config),
      stateDir: config.state_dir,
      limits: { total, perIdentity },
      api: () => link.api,
      clock: systemClock,
      log,
      metrics,
    },
    follow(replaced) {
      const following = new AbortController();
      const followed = link.follow(following.signal, replaced);
      closers.defer(async () => {
        following.abort();
        await followed;
      });
    },
  };
}

/** What the server tells clients to come to; a port that is chosen at the start is nobody's to know. */
function portsOf(config: GatewayConfig): Record<string, number> {
  const ports = Object.entries(config.listen).map(([name, at]) => [name, at?.port ?? 0] as const);
  return Object.fromEntries(ports.filter(([, port]) => port !== 0));
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
