/** A server: the authority, the registry and the record of a trust domain. */
import { Closers } from '../runtime/closers.ts';
import { loadConfig } from '../runtime/config.ts';
import { type ServerConfig, serverConfigSchema } from './config.ts';
import { openCallers } from './open-callers.ts';
import { type ContextOptions, openContext } from './open-context.ts';
import { openCore } from './open-core.ts';
import { openDoors, openServerSvid } from './open-doors.ts';
import { openRegistry } from './open-registry.ts';
import { openServices } from './open-services.ts';

/** What a server that is ready tells its starter. */
export interface ServerFacts {
  /** `host:port` of the TLS port. */
  readonly address: string;
  readonly adminSocket: string;
  /** `host:port` of the health endpoint. */
  readonly health: string;
  /** `host:port` of the revocation lists, if they are served. */
  readonly crl?: string | undefined;
}

export interface RunServerOptions extends ContextOptions {
  /** Stops the server; `runServer` then resolves. */
  readonly signal: AbortSignal;
  /** Called once, when the server answers. */
  onReady?(facts: ServerFacts): void;
}

/** @throws Fault CONFIG_INVALID with one line for each problem */
export function loadServerConfig(file: string): Promise<ServerConfig> {
  return loadConfig(file, serverConfigSchema);
}

/**
 * Runs until the signal aborts.
 * @throws Fault STATE_UNUSABLE, with one line that says why the server cannot start
 */
export async function runServer(config: ServerConfig, options: RunServerOptions): Promise<void> {
  const { signal, log } = options;
  await using closers = new Closers();
  const { context, adminSocket, health } = await openContext(config, options, closers);
  const core = await openCore(context);
  const registry = await openRegistry(context, core);
  const callers = await openCallers(context, core, registry);
  const svid = await openServerSvid(context, core);
  const services = await openServices(context, { core, registry, callers, svid });
  const { address, crl } = await openDoors(context, { core, callers, services, svid, adminSocket });
  context.serving.set(true);
  closers.defer(() => context.serving.set(false));
  log.info({ trust_domain: config.trust_domain, address }, 'server ready');
  options.onReady?.({ address, adminSocket: adminSocket.path, health, crl });
  await aborted(signal);
  log.info('server stopping');
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
