import { type Clock, systemClock } from '../runtime/clock.ts';
import type { Closers } from '../runtime/closers.ts';
import { serveHealth } from '../runtime/http-endpoint.ts';
import type { Logger } from '../runtime/log.ts';
import { MetricsRegistry } from '../runtime/metrics.ts';
import { Watched } from '../runtime/watched.ts';
import { ClockGuard } from './clock-guard.ts';
import type { ServerConfig } from './config.ts';
import { type Context, own } from './context.ts';
import { AdminSocket } from './endpoints.ts';
import { LoopDelay } from './loop-delay.ts';
import { serverMetrics } from './metrics.ts';
import { openDatastore } from './plugins/catalog.ts';
import { claimTrustDomain, prepareStateDir } from './state-dir.ts';
import { StoreFollower } from './store-follower.ts';

export interface ContextOptions {
  readonly log: Logger;
  readonly clock?: Clock;
  /** The level of the log that the configuration says now; that of `config` unless told. */
  readonly configuredLevel?: () => string;
}

export interface OpenContext {
  readonly context: Context;
  /** It turns callers away until it is told to serve. */
  readonly adminSocket: AdminSocket;
  /** `host:port` of the health endpoint. */
  readonly health: string;
}

/**
 * Takes the state directory and its store for this process, the clock as the store knows it, and answers
 * for its health from here on.
 * @throws Fault STATE_UNUSABLE
 */
export async function openContext(
  config: ServerConfig,
  options: ContextOptions,
  closers: Closers,
): Promise<OpenContext> {
  const { log, clock: hostClock = systemClock, configuredLevel = () => config.log.level } = options;
  const registry = new MetricsRegistry();
  const metrics = serverMetrics(registry);
  const serving = new Watched(false);
  await prepareStateDir(config.state_dir);
  const adminSocket = own(closers, await AdminSocket.open(config.state_dir, log));
  const store = own(closers, await openDatastore(config));
  await claimTrustDomain(store, config.state_dir, config.trust_domain);
  const clockGuard = own(closers, await ClockGuard.open({ store, clock: hostClock, log }));
  const { clock } = clockGuard;
  const follower = own(closers, new StoreFollower({ store, clock, log }));
  own(closers, new LoopDelay({ clock, gauge: metrics.loopDelay }));
  const health = await serveHealth({
    listen: config.health,
    ready: () => (clockGuard.isAstray ? 'the clock has leapt' : serving.value || 'not serving yet'),
    metrics: registry,
    onRefused: () => metrics.connectionsRefused.inc({ listener: 'health' }),
  });
  const { address } = own(closers, health);
  const parts = { config, store, follower, clockGuard, clock, log, metrics, closers, serving };
  return { context: { ...parts, configuredLevel }, adminSocket, health: address };
}
