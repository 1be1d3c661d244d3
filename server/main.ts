/** A server: the authority, the registry and the record of a trust domain. */
import { join } from 'node:path';
import { SpiffeId } from '../identity/spiffe-id.ts';
import { type Clock, systemClock } from '../runtime/clock.ts';
import { Closers } from '../runtime/closers.ts';
import { formatHostPort, loadConfig } from '../runtime/config.ts';
import { serveHealth } from '../runtime/http-endpoint.ts';
import type { Logger } from '../runtime/log.ts';
import { MetricsRegistry } from '../runtime/metrics.ts';
import { Watched, type WatchedSource } from '../runtime/watched.ts';
import { createAccess } from './access/access.ts';
import { Revocations } from './access/revocations.ts';
import { agentService } from './api/agent-service.ts';
import { agentSshService } from './api/agent-ssh-service.ts';
import { auditService } from './api/audit-service.ts';
import { bundleService } from './api/bundle-service.ts';
import { identify, type ServerPeer } from './api/callers.ts';
import { entryService } from './api/entry-service.ts';
import { gatewaySshService } from './api/gateway-ssh-service.ts';
import { healthService } from './api/health-service.ts';
import { identityService } from './api/identity-service.ts';
import { joinTokenService } from './api/join-token-service.ts';
import { sshService } from './api/ssh-service.ts';
import { svidService } from './api/svid-service.ts';
import { watchEntriesService } from './api/watch-entries.ts';
import { Agents } from './attestation/agents.ts';
import { NodeAttestation } from './attestation/attest-agent.ts';
import { JoinTokens } from './attestation/join-tokens.ts';
import { AuditLog } from './audit/audit-log.ts';
import { RefusalCounter } from './audit/refusal-counter.ts';
import { Authority } from './authority/authority.ts';
import { Issuer } from './authority/issuer.ts';
import type { IssuedKind } from './authority/ledger.ts';
import { ServerSvid } from './authority/server-svid.ts';
import { SshAuthority } from './authority/ssh-authority.ts';
import { SshIssuer } from './authority/ssh-issuer.ts';
import { ClockGuard } from './clock-guard.ts';
import { type ServerConfig, serverConfigSchema } from './config.ts';
import { AdminSocket, adminRpc, remoteRpc, type Services, tlsEndpoint } from './endpoints.ts';
import { GatewayConnections } from './gateway-connections.ts';
import { type ServerMetrics, serverMetrics } from './metrics.ts';
import { backendSetups, keyManager, nodeAttestors } from './plugins/catalog.ts';
import type { Datastore } from './plugins/datastore/datastore.ts';
import { openSqlite } from './plugins/datastore/sqlite.ts';
import { Entries } from './registry/entries.ts';
import { EntryIndex } from './registry/entry-index.ts';
import { Expiry } from './registry/expiry.ts';
import { Identities, type IdentityDefaults } from './registry/identities.ts';
import { RegistryChanges } from './registry/registry-changes.ts';
import { claimTrustDomain, prepareStateDir } from './state-dir.ts';

/** What a server that is ready tells its starter. */
export interface ServerFacts {
  /** `host:port` of the TLS port. */
  readonly address: string;
  readonly adminSocket: string;
  /** `host:port` of the health endpoint. */
  readonly health: string;
}

export interface RunServerOptions {
  /** Stops the server; `runServer` then resolves. */
  readonly signal: AbortSignal;
  readonly log: Logger;
  /** Called once, when the server answers. */
  onReady?(facts: ServerFacts): void;
  readonly clock?: Clock;
}

/** @throws Fault CONFIG_INVALID with one line for each problem */
export function loadServerConfig(file: string): Promise<ServerConfig> {
  return loadConfig(file, serverConfigSchema);
}

/** What the parts of a running server share. */
interface Context {
  readonly config: ServerConfig;
  readonly store: Datastore;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: ServerMetrics;
  readonly closers: Closers;
  readonly serving: Watched<boolean>;
}

/**
 * Runs until the signal aborts.
 * @throws Fault STATE_UNUSABLE, with one line that says why the server cannot start
 */
export async function runServer(config: ServerConfig, options: RunServerOptions): Promise<void> {
  const { signal, log } = options;
  const registry = new MetricsRegistry();
  const metrics = serverMetrics(registry);
  const serving = new Watched(false);
  await using closers = new Closers();

  await prepareStateDir(config.state_dir);
  const adminSocket = own(closers, await AdminSocket.open(config.state_dir, log));
  const store = own(closers, await openSqlite(join(config.state_dir, 'server.db')));
  await claimTrustDomain(store, config.state_dir, config.trust_domain);
  const hostClock = options.clock ?? systemClock;
  const { clock } = own(closers, await ClockGuard.open({ store, clock: hostClock, log }));
  const health = own(
    closers,
    await serveHealth({
      listen: config.health,
      ready: () => (serving.value ? true : 'not serving yet'),
      metrics: registry,
      onRefused: () => metrics.connectionsRefused.inc({ listener: 'health' }),
    }),
  );
  const context: Context = { config, store, clock, log, metrics, closers, serving };
  const address = await serve(context, adminSocket);
  serving.set(true);
  closers.defer(() => serving.set(false));
  log.info({ trust_domain: config.trust_domain, address }, 'server ready');
  options.onReady?.({ address, adminSocket: adminSocket.path, health: health.address });
  await aborted(signal);
  log.info('server stopping');
}

type Core = Awaited<ReturnType<typeof openCore>>;
type Registry = Awaited<ReturnType<typeof openRegistry>>;

/** Builds every part on the open store, then opens both doors; resolves with the TLS port's address. */
async function serve(context: Context, adminSocket: AdminSocket): Promise<string> {
  const { config, store, clock, log, metrics, closers } = context;
  const core = await openCore(context);
  const registry = await openRegistry(context, core);
  const { authority, refusals, revocations } = core;
  const { agents } = registry;
  const prove = (peer: ServerPeer) => identify(peer, { reader: store, clock, agents });
  const gateways = own(
    closers,
    new GatewayConnections({ revocations: revocations.head, clock, log, prove }),
  );
  const services = await openServices(context, core, registry, (id) => gateways.disconnect(id));

  const svid = own(
    closers,
    await ServerSvid.open({ ...context, authority, ttlSeconds: config.ttl.x509_svid }),
  );
  const rpcOptions = { log, metrics, prove };
  const admin = own(closers, adminRpc(services, rpcOptions));
  const remote = remoteRpc(services, rpcOptions);
  const endpoint = own(
    closers,
    tlsEndpoint({
      ...{ svid: svid.current, bundle: authority.bundle, clock, refusals, metrics },
      onConnection: (connection) => {
        gateways.add(connection);
        remote.inject(connection.socket, { kind: 'remote', connection });
      },
    }),
  );
  own(closers, remote);
  const address = formatHostPort(await endpoint.listen(config.listen.host, config.listen.port));
  adminSocket.serve(admin, metrics);
  return address;
}

/** Audit, revocations and the authorities. */
async function openCore({ config, store, clock, log, metrics, closers }: Context) {
  const audit = new AuditLog(store, clock);
  await audit.load();
  const refusals = own(closers, new RefusalCounter({ store, audit, clock, log }));
  const revocations = new Revocations(store, clock);
  await revocations.load();
  const forAuthorities = {
    ...{ store, audit, clock, log },
    trustDomain: config.trust_domain,
    keys: keyManager(config.state_dir),
    onIssued: (kind: IssuedKind) => metrics.svidsIssued.inc({ kind }),
  };
  const authority = await Authority.open(forAuthorities);
  const sshAuthority = await SshAuthority.open(forAuthorities);
  closers.defer(follow(audit.head, (seq) => metrics.auditEvents.set(Number(seq))));
  return { audit, refusals, revocations, authority, sshAuthority };
}

/** Identities, entries, agents and join tokens, with the index of entries loaded. */
async function openRegistry(context: Context, core: Core) {
  const { config, store, clock, log, metrics, closers } = context;
  const { audit, revocations, refusals, authority } = core;
  const trustDomain = config.trust_domain;
  const serverId = SpiffeId.fromSegments(trustDomain, 'spire', 'server');
  const index = new EntryIndex(serverId.toString());
  const changes = new RegistryChanges(clock);
  await changes.load(store);
  const shared = { store, clock, log, audit, revocations, changes, index, trustDomain };
  const defaults = identityDefaults(config);
  const identities = new Identities({ ...shared, defaults });
  await identities.load();
  const entries = new Entries({ ...shared, identities });
  await entries.load();
  const agents = new Agents({ ...shared, refusals, entries });
  const joinTokens = new JoinTokens({ ...shared, entries, bundle: authority.bundle });
  own(
    closers,
    new Expiry({
      ...shared,
      ...{ entries, identities },
      housekeep: (tx, now) => joinTokens.dropExpired(tx, now),
    }),
  );
  closers.defer(follow(changes.head, () => metrics.entries.set(index.size)));
  return { index, changes, identities, entries, agents, joinTokens };
}

/** The implementation of every service. */
async function openServices(
  context: Context,
  core: Core,
  registry: Registry,
  disconnectGateway: (id: string) => void,
): Promise<Services> {
  const { config, store, clock, log, closers, serving } = context;
  const { authority, sshAuthority, refusals, audit } = core;
  const { ttl, trust_domain: trustDomain } = config;
  const { joinTokens } = registry;
  const { bundle } = authority;
  const shared = { ...registry, store, reader: store, clock, log, trustDomain, audit, bundle };
  const access = own(
    closers,
    await createAccess({
      ...shared,
      revocations: core.revocations,
      sessionMaximumSeconds: ttl.session_maximum,
      backendSetups: backendSetups(),
      sshAuthorities: sshAuthority.authorities,
      disconnectGateway,
    }),
  );
  const attestation = new NodeAttestation({
    ...{ ...shared, authority, refusals, ttlSeconds: ttl.agent_svid },
    attestors: nodeAttestors(config.node_attestors, { trustDomain, clock, joinTokens }),
  });
  const issuer = new Issuer({
    ...{ ...shared, authority },
    ttl: { x509Seconds: ttl.x509_svid, jwtSeconds: ttl.jwt_svid },
  });
  const sshIssuer = new SshIssuer({
    ...{ ...shared, authority: sshAuthority },
    userTtlSeconds: ttl.ssh_certificate,
  });
  return {
    ...access.services,
    gateway: { ...access.services.gateway, ...gatewaySshService({ sshIssuer }) },
    agents: agentService({ ...shared, attestation }),
    entries: entryService(shared),
    svids: svidService({ issuer, trustDomain }),
    bundles: bundleService({ bundle }),
    health: healthService({ serving }),
    nodes: { ...watchEntriesService(shared), ...agentSshService({ ...shared, sshIssuer }) },
    ssh: sshService({ sshIssuer }),
    joinTokens: joinTokenService({ joinTokens, trustDomain }),
    identities: identityService(shared),
    audit: auditService({ audit }),
  };
}

function identityDefaults({ registration }: ServerConfig): IdentityDefaults | undefined {
  const { defaults } = registration;
  if (defaults === undefined) return undefined;
  const { expires_in: expiresInSeconds, ...rest } = defaults;
  return { ...rest, expiresInSeconds };
}

/** Takes over a part's end. */
function own<T extends AsyncDisposable>(closers: Closers, part: T): T {
  closers.defer(async () => await part[Symbol.asyncDispose]());
  return part;
}

/** Shows each value of a source until the returned function is called. */
function follow<T>(source: WatchedSource<T>, show: (value: T) => void): () => Promise<void> {
  const stop = new AbortController();
  const following = (async () => {
    for await (const value of source.values(stop.signal)) show(value);
  })();
  return async () => {
    stop.abort();
    await following;
  };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
