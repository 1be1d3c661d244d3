/**
 * One worker of a gateway: its share of the clients, their TLS, what they say, their records and budgets.
 * It has its own X509-SVID from the agent, and its own channel for what protocols ask of the server.
 */
import { type Clock, systemClock } from '../../runtime/clock.ts';
import { Closers } from '../../runtime/closers.ts';
import { formatHostPort } from '../../runtime/config.ts';
import { createLogger, type Logger } from '../../runtime/log.ts';
import { MetricsRegistry } from '../../runtime/metrics.ts';
import type { X509Source } from '../../sdk/x509-source.ts';
import type { EventInit } from '../access/event-spool.ts';
import { GatewayAudit } from '../access/gateway-audit.ts';
import { ServerLink } from '../access/server-link.ts';
import type { GatewayConfig } from '../config.ts';
import { budgetsIn, openRecordings, type ServingCore } from '../core.ts';
import { openPorts } from '../listener/open-ports.ts';
import { type GatewayMetrics, gatewayMetrics } from '../metrics.ts';
import { connectSource } from '../own-svid.ts';
import { loadGatewayKeys } from '../recording/gateway-keys.ts';
import { DayUses } from '../session/day-use.ts';
import { sessionDesk } from '../session/open-session.ts';
import { watchDesk } from '../session/watch-desk.ts';
import { type ToPrimary, type ToWorker, wireFault } from './messages.ts';
import { PrimaryLink } from './primary-link.ts';
import { watchPrimary } from './watch-primary.ts';

/** The channel to the primary. */
export interface PrimaryPort {
  send(message: ToPrimary): void;
  receive(handle: (message: ToWorker) => void): void;
}

/**
 * Serves until the primary says to stop.
 * @throws Fault what the primary was told
 */
export async function serveAsWorker(port: PrimaryPort, onSilence: () => void): Promise<void> {
  const registry = new MetricsRegistry();
  const log = createLogger({ process: 'gateway', level: 'info' });
  const primary = new PrimaryLink({
    send: port.send,
    samples: () => registry.samples(),
    onLevel: (level) => {
      log.level = level;
    },
  });
  port.receive((message) => primary.receive(message));
  port.send({ kind: 'begun' });
  const stopped = new AbortController();
  const watching = watchPrimary({ primary, clock: systemClock, onSilence }, stopped.signal);
  try {
    const { index, count, config } = await primary.started;
    log.setBindings({ worker: index });
    await serve({ config, primary, place: { index, count }, send: port.send }, { registry, log });
  } catch (error) {
    const fault = wireFault(error);
    if (fault.code === 'INTERNAL') log.error({ err: error }, 'worker failed');
    port.send({ kind: 'failed', fault });
    throw error;
  } finally {
    stopped.abort();
    await watching;
  }
}

interface WorkerParts {
  readonly config: GatewayConfig;
  readonly primary: PrimaryLink;
  readonly place: { readonly index: number; readonly count: number };
  readonly send: PrimaryPort['send'];
}

async function serve(
  parts: WorkerParts,
  { registry, log }: { readonly registry: MetricsRegistry; readonly log: Logger },
): Promise<void> {
  const { config, primary, place, send } = parts;
  await using closers = new Closers();
  const metrics = gatewayMetrics(registry);
  const source = await connectSource(config, { signal: primary.stopping, log });
  if (source === undefined) return;
  closers.defer(() => source[Symbol.asyncDispose]());
  const core = await startServing(parts, { source, metrics, log, closers, clock: systemClock });
  const peersOf = (protocol: string) => primary.peersOf(protocol, place);
  const listeners = await openPorts(config, { source, core, log, metrics, closers, peersOf });
  send({ kind: 'serving', listeners: [...listeners] });
  await aborted(primary.stopping);
}

async function startServing(
  { config, primary, place, send }: WorkerParts,
  parts: {
    readonly source: X509Source;
    readonly metrics: GatewayMetrics;
    readonly log: Logger;
    readonly closers: Closers;
    readonly clock: Clock;
  },
): Promise<ServingCore> {
  const { source, metrics, log, closers, clock } = parts;
  const { svid, bundle } = source;
  const link = new ServerLink({ address: formatHostPort(config.server), svid, bundle, clock });
  closers.defer(() => link[Symbol.asyncDispose]());
  const running = new AbortController();
  const keys = await loadGatewayKeys(config.state_dir);
  const recordings = openRecordings(config.state_dir, { key: keys.recording, clock });
  const dayUses = new DayUses({ directory: budgetsIn(config.state_dir), clock, slot: place });
  closers.defer(() => dayUses[Symbol.dispose]());
  // Whether there is room for events the primary asks, before it admits a session.
  const sink = {
    append: (event: EventInit) => send({ kind: 'event', event }),
    requireRoom: () => undefined,
  };
  const audit = new GatewayAudit(sink, { clock, log });
  const desk = sessionDesk({
    ...{ admission: primary, recordings, dayUses, audit },
    ...{ hmacKey: keys.hmacKey, clock, log, metrics },
  });
  const tasks = [
    link.follow(running.signal, () => undefined),
    watchDesk({ desk, audit, clock }, running.signal),
  ];
  closers.defer(async () => {
    running.abort();
    await Promise.all(tasks);
    audit.flush();
  });
  const { snapshot, stopping } = primary;
  return { desk, snapshot, audit, api: () => link.api, signal: stopping };
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
