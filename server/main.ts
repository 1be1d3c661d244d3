/** A server: the authority, the registry and the record of a trust domain. */
import { join } from 'node:path';
import { SpiffeId } from '../identity/spiffe-id.ts';
import { type Clock, systemClock } from '../runtime/clock.ts';
import { Closers } from '../runtime/closers.ts';
import { formatHostPort, loadConfig } from '../runtime/config.ts';
import { Fault } from '../runtime/fault.ts';
import { serveHealth } from '../runtime/http-endpoint.ts';
import type { Logger } from '../runtime/log.ts';
import { MetricsRegistry } from '../runtime/metrics.ts';
import { Watched, type WatchedSource } from '../runtime/watched.ts';
import { createAccess } from './access/access.ts';
import { Revocations } from './access/revocations.ts';
import { AdminSocketMode } from './admin-socket-mode.ts';
import { AdminGate } from './api/admin-gate.ts';
import { agentRegistryService } from './api/agent-registry-service.ts';
import { agentService } from './api/agent-service.ts';
import { agentSshService } from './api/agent-ssh-service.ts';
import { auditService } from './api/audit-service.ts';
import { authorityService } from './api/authority-service.ts';
import { bundleService } from './api/bundle-service.ts';
import { type CallerKind, identify, isMemberKind, type ServerPeer } from './api/callers.ts';
import { crlService } from './api/crl-service.ts';
import { debugService } from './api/debug-service.ts';
import { downstreamService } from './api/downstream-service.ts';
import { entryService } from './api/entry-service.ts';
import { gatewaySshService } from './api/gateway-ssh-service.ts';
import { healthService } from './api/health-service.ts';
import { identityService } from './api/identity-service.ts';
import { joinTokenService } from './api/join-token-service.ts';
import { limitAdminSocketService } from './api/limit-admin-socket-service.ts';
import { localAuthorityService } from './api/local-authority-service.ts';
import { loggerService } from './api/logger-service.ts';
import { registrarService } from './api/registrar-service.ts';
import { restoredGate } from './api/restored-gate.ts';
import { serverService } from './api/server-service.ts';
import { sshService } from './api/ssh-service.ts';
import { svidService } from './api/svid-service.ts';
import { trustDomainService } from './api/trust-domain-service.ts';
import { watchEntriesService } from './api/watch-entries.ts';
import { Agents } from './attestation/agents.ts';
import { NodeAttestation } from './attestation/attest-agent.ts';
import { isSvidBarred } from './attestation/barred-svid.ts';
import { JoinTokens } from './attestation/join-tokens.ts';
import { SpentTokens } from './attestation/spent-tokens.ts';
import { AuditLog } from './audit/audit-log.ts';
import { RefusalCounter } from './audit/refusal-counter.ts';
import { Authorities } from './authority/authorities.ts';
import { Authority } from './authority/authority.ts';
import { authoritySettings } from './authority/authority-settings.ts';
import { Crls } from './authority/crls.ts';
import { Issuer } from './authority/issuer.ts';
import { KeptSvid } from './authority/kept-svid.ts';
import type { IssuedKind } from './authority/ledger.ts';
import { Rotation } from './authority/rotation.ts';
import { ServerSvid } from './authority/server-svid.ts';
import { SshAuthority } from './authority/ssh-authority.ts';
import { SshIssuer } from './authority/ssh-issuer.ts';
import { UpstreamLink } from './authority/upstream-link.ts';
import { ClockGuard } from './clock-guard.ts';
import { type ServerConfig, serverConfigSchema } from './config.ts';
import { serveCrls } from './crl-endpoint.ts';
import { AdminSocket, adminRpc, remoteRpc, type Services, tlsEndpoint } from './endpoints.ts';
import { GatewayConnections } from './gateway-connections.ts';
import { limitedServices } from './limited-services.ts';
import { type ServerMetrics, serverMetrics } from './metrics.ts';
import {
  backendSetups,
  keyManager,
  nodeAttestors,
  openDatastore,
  upstreamAuthority,
} from './plugins/catalog.ts';
import type { Datastore } from './plugins/datastore/datastore.ts';
import { Entries } from './registry/entries.ts';
import { EntryIndex } from './registry/entry-index.ts';
import { Expiry } from './registry/expiry.ts';
import { FederatedBundles, type FederatedBundlesOptions } from './registry/federated-bundles.ts';
import { FederationRefresh, type FederationRefreshOptions } from './registry/federation-refresh.ts';
import { FederationRelationships } from './registry/federation-relationships.ts';
import { Identities, type IdentityDefaults } from './registry/identities.ts';
import { RegistrarScopes } from './registry/registrar-scope.ts';
import { Registrars } from './registry/registrars.ts';
import { RegistryChanges } from './registry/registry-changes.ts';
import { TtlPolicy } from './registry/ttl-policy.ts';
import { readWebAuthorities } from './registry/web-authorities.ts';
import { RestoredLock } from './restored-lock.ts';
import { claimTrustDomain, prepareStateDir } from './state-dir.ts';
import { StoreFollower } from './store-follower.ts';
import { UnprovedConnections } from './unproved-connections.ts';

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

export interface RunServerOptions {
  /** Stops the server; `runServer` then resolves. */
  readonly signal: AbortSignal;
  readonly log: Logger;
  /** Called once, when the server answers. */
  onReady?(facts: ServerFacts): void;
  readonly clock?: Clock;
  /** The level of the log that the configuration says now; that of `config` unless told. */
  readonly configuredLevel?: () => string;
}

/** @throws Fault CONFIG_INVALID with one line for each problem */
export function loadServerConfig(file: string): Promise<ServerConfig> {
  return loadConfig(file, serverConfigSchema);
}

/** What the parts of a running server share. */
interface Context {
  readonly config: ServerConfig;
  readonly store: Datastore;
  readonly follower: StoreFollower;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: ServerMetrics;
  readonly closers: Closers;
  readonly serving: Watched<boolean>;
  readonly configuredLevel: () => string;
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
  const store = own(closers, await openDatastore(config));
  await claimTrustDomain(store, config.state_dir, config.trust_domain);
  const hostClock = options.clock ?? systemClock;
  const { clock } = own(closers, await ClockGuard.open({ store, clock: hostClock, log }));
  const follower = own(closers, new StoreFollower({ store, clock, log }));
  const health = own(
    closers,
    await serveHealth({
      listen: config.health,
      ready: () => (serving.value ? true : 'not serving yet'),
      metrics: registry,
      onRefused: () => metrics.connectionsRefused.inc({ listener: 'health' }),
    }),
  );
  const configuredLevel = options.configuredLevel ?? (() => config.log.level);
  const parts = { config, store, follower, clock, log, metrics, closers, serving };
  const context: Context = { ...parts, configuredLevel };
  const { address, crl } = await serve(context, adminSocket);
  serving.set(true);
  closers.defer(() => serving.set(false));
  log.info({ trust_domain: config.trust_domain, address }, 'server ready');
  options.onReady?.({ address, adminSocket: adminSocket.path, health: health.address, crl });
  await aborted(signal);
  log.info('server stopping');
}

type Core = Awaited<ReturnType<typeof openCore>>;
type Registry = Awaited<ReturnType<typeof openRegistry>>;

type Ports = Pick<ServerFacts, 'address' | 'crl'>;

/** Builds every part on the open store, then opens its doors; resolves with the ports' addresses. */
async function serve(context: Context, adminSocket: AdminSocket): Promise<Ports> {
  const { config, store, clock, log, metrics, closers, configuredLevel } = context;
  const core = await openCore(context);
  const registry = await openRegistry(context, core);
  const { audit, authority, refusals, revocations } = core;
  const { agents } = registry;
  const unproved = new UnprovedConnections(clock);
  const proof = { reader: store, clock, agents, adminIds: registry.adminIds };
  const prove = async (peer: ServerPeer, wanted: readonly CallerKind[] = []) => {
    const caller = await identify(peer, proof, wanted);
    if (peer.kind === 'remote' && isMemberKind(caller.kind)) unproved.proved(peer.connection);
    return caller;
  };
  const gateways = own(
    closers,
    new GatewayConnections({ revocations: revocations.head, clock, log, prove }),
  );
  const mode = await AdminSocketMode.open({ store, audit, configured: config.admin_socket });
  const svid = own(
    closers,
    await ServerSvid.open({
      ...{ ...context, authority, authorities: core.authorities },
      ttlSeconds: config.ttl.x509_svid,
      kept:
        'disk' in config.key_manager
          ? new KeptSvid(join(config.state_dir, 'server-svid.json'))
          : undefined,
    }),
  );
  const lock = await RestoredLock.open({ store, audit });
  if (lock.isLocked) log.warn('this server was restored: it serves nobody until it is unlocked');
  const unlimited = await openServices(context, core, registry, (id) => gateways.disconnect(id));
  const services = {
    ...limitedServices(unlimited, config.rate_limits, clock),
    server: {
      ...limitAdminSocketService({ mode }),
      ...serverService({
        store,
        clock,
        audit,
        keys: core.keys,
        trustDomain: config.trust_domain,
        lock,
      }),
    },
    logger: loggerService({ store, audit, log, configuredLevel }),
    debug: debugService({
      ...{ reader: store, index: registry.index, clock },
      ...{ svid: svid.current, bundle: authority.bundle },
    }),
  };
  const gate = new AdminGate({ mode, refusals });
  const rpcOptions = { log, metrics, prove, gate, restored: restoredGate(lock) };
  const admin = own(closers, adminRpc(services, rpcOptions));
  const remote = remoteRpc(services, rpcOptions);
  const endpoint = own(
    closers,
    tlsEndpoint({
      ...{ svid: svid.current, bundle: authority.bundle, clock, refusals, metrics, unproved },
      onConnection: (connection) => {
        gateways.add(connection);
        remote.inject(connection.socket, { kind: 'remote', connection });
      },
    }),
  );
  own(closers, remote);
  const address = formatHostPort(await endpoint.listen(config.listen.host, config.listen.port));
  adminSocket.serve(admin, metrics);
  return { address, crl: await openCrlPort(context, core.crls) };
}

async function openCrlPort(
  { config, metrics, closers }: Context,
  crls: Crls,
): Promise<string | undefined> {
  if (config.crl === undefined) return undefined;
  const onRefused = () => metrics.connectionsRefused.inc({ listener: 'crl' });
  const port = own(closers, await serveCrls({ listen: config.crl.listen, crls, onRefused }));
  return port.address;
}

/** Audit, revocations and the authorities. */
async function openCore(context: Context) {
  const { config, store, follower, clock, log, metrics, closers } = context;
  const audit = new AuditLog(store, clock);
  await audit.load();
  const refusals = own(closers, new RefusalCounter({ store, audit, clock, log }));
  const revocations = new Revocations(store, clock);
  await revocations.load();
  follower.add(() => audit.load());
  follower.add(() => revocations.load());
  const keys = keyManager(config);
  const upstream = await upstreamAuthority(config, { clock, log });
  closers.defer(async () => await upstream?.[Symbol.asyncDispose]?.());
  const authorities = await Authorities.open({
    ...{ store, audit, clock, log, keys },
    trustDomain: config.trust_domain,
    settings: authoritySettings(config),
    upstream,
  });
  if (upstream !== undefined) own(closers, new UpstreamLink({ authorities, upstream, clock, log }));
  const onIssued = (kind: IssuedKind) => metrics.svidsIssued.inc({ kind });
  const forSigning = { authorities, audit, clock, onIssued };
  const authority = new Authority({ ...forSigning, jwtIssuer: config.jwt.issuer });
  const sshAuthority = new SshAuthority(forSigning);
  own(closers, new Rotation({ authorities, clock, log }));
  const crls = own(
    closers,
    await Crls.open({ store, authority, authorities, revocations, clock, log }),
  );
  if (config.ttl.x509_svid > config.ca.ttl / 6)
    log.warn('ttl.x509_svid is more than a sixth of ca.ttl: SVIDs end early, with their authority');
  closers.defer(follow(audit.head, (seq) => metrics.auditEvents.set(Number(seq))));
  return { audit, refusals, revocations, keys, authorities, authority, sshAuthority, crls };
}

/** Identities, entries, agents and join tokens, with the index of entries loaded. */
async function openRegistry(context: Context, core: Core) {
  const { config, store, follower, clock, log, metrics, closers } = context;
  const { audit, revocations, refusals, authority } = core;
  const trustDomain = config.trust_domain;
  const serverId = SpiffeId.fromSegments(trustDomain, 'spire', 'server');
  const index = new EntryIndex(serverId.toString());
  const changes = new RegistryChanges({ clock, index });
  await changes.load(store);
  follower.add(() => changes.catchUp(store));
  const shared = { store, clock, log, audit, revocations, changes, index, trustDomain };
  const defaults = identityDefaults(config);
  const identities = new Identities({ ...shared, defaults });
  const entries = new Entries({ ...shared, identities });
  const agents = new Agents({ ...shared, refusals, entries, onClone: config.on_clone });
  const adminIds = adminIdsOf(config);
  const registrars = new Registrars(shared);
  const defaultTtls = { x509Seconds: config.ttl.x509_svid, jwtSeconds: config.ttl.jwt_svid };
  const registrarScopes = new RegistrarScopes({ refusals, adminIds, defaultTtls });
  const joinTokens = new JoinTokens({ ...shared, entries, bundle: authority.bundle });
  const spentTokens = new SpentTokens({ store });
  const federation = openFederation(context, { ...shared, entries, bundle: authority.bundle });
  own(
    closers,
    new Expiry({
      ...shared,
      ...{ entries, identities },
      housekeep: async (tx, now) => {
        await joinTokens.dropExpired(tx, now);
        await spentTokens.dropExpired(tx, now);
      },
    }),
  );
  closers.defer(follow(changes.head, () => metrics.entries.set(index.size)));
  const forRegistrars = { adminIds, registrars, registrarScopes };
  const nodes = { agents, joinTokens, spentTokens };
  return { index, changes, identities, entries, ...nodes, ...federation, ...forRegistrars };
}

/** Foreign bundles, where they come from, and what fetches them. */
function openFederation(
  { config, closers }: Context,
  shared: FederatedBundlesOptions & Omit<FederationRefreshOptions, 'bundles' | 'webAuthorities'>,
) {
  const federatedBundles = new FederatedBundles(shared);
  const bundles = federatedBundles;
  const webAuthorities = readWebAuthorities(config.federation.web_ca_file);
  const refresh = own(closers, new FederationRefresh({ ...shared, bundles, webAuthorities }));
  const onChanged = () => refresh.wake();
  const relationships = new FederationRelationships({ ...shared, bundles, onChanged });
  return { federatedBundles, refresh, relationships };
}

/** The implementation of every service. */
async function openServices(
  context: Context,
  core: Core,
  registry: Registry,
  disconnectGateway: (id: string) => void,
): Promise<Omit<Services, 'server' | 'logger' | 'debug'>> {
  const { config, store, clock, log, closers, serving } = context;
  const { authority, sshAuthority, refusals, audit } = core;
  const { ttl, trust_domain: trustDomain } = config;
  const { joinTokens, spentTokens, federatedBundles, relationships, refresh } = registry;
  const { bundle } = authority;
  const shared = { ...registry, store, reader: store, clock, log, trustDomain, audit, bundle };
  const access = own(
    closers,
    await createAccess({
      ...shared,
      followStore: (catchUp) => context.follower.add(catchUp),
      revocations: core.revocations,
      sessionMaximumSeconds: ttl.session_maximum,
      backendSetups: backendSetups(),
      sshAuthorities: sshAuthority.authorities,
      disconnectGateway,
    }),
  );
  const attestation = new NodeAttestation({
    ...{ ...shared, authority, refusals, ttlSeconds: ttl.agent_svid },
    attestors: nodeAttestors(config.node_attestors, {
      ...{ trustDomain, clock, joinTokens, spentTokens, bundle },
      isBarred: (svid) => isSvidBarred(store, svid, clock.now()),
    }),
  });
  const rules = { ttlPolicy: new TtlPolicy(config.ttl_policy), refusals };
  const issuer = new Issuer({
    ...{ ...shared, authority },
    ttl: { x509Seconds: ttl.x509_svid, jwtSeconds: ttl.jwt_svid },
    rules,
  });
  const sshIssuer = new SshIssuer({
    ...{ ...shared, authority: sshAuthority },
    userTtlSeconds: ttl.ssh_certificate,
    rules,
  });
  const downstream = downstreamService({ ...shared, authority, caTtlSeconds: config.ca.ttl });
  return {
    ...access.services,
    gateway: { ...access.services.gateway, ...gatewaySshService({ sshIssuer }) },
    agents: agentService({ ...shared, attestation }),
    entries: entryService(shared),
    svids: { ...svidService({ issuer, trustDomain }), ...downstream.svids },
    bundles: {
      ...bundleService({ store, bundle, authority, federatedBundles }),
      ...downstream.bundles,
    },
    trustDomains: trustDomainService({ store, relationships, refresh }),
    health: healthService({ serving }),
    nodes: {
      ...{ ...watchEntriesService(shared), ...agentSshService({ ...shared, sshIssuer }) },
      ...crlService(core),
    },
    ssh: sshService({ sshIssuer }),
    joinTokens: joinTokenService({ joinTokens, trustDomain }),
    identities: identityService(shared),
    agentRegistry: agentRegistryService(shared),
    registrars: registrarService(shared),
    authorities: authorityService(core),
    localAuthorities: localAuthorityService(core),
    audit: auditService({ audit }),
  };
}

/** @throws Fault CONFIG_INVALID for one of another trust domain, whose SVIDs nobody here verifies yet */
function adminIdsOf(config: ServerConfig): ReadonlySet<string> {
  const foreign = config.admin_ids.find(
    (id) => SpiffeId.parse(id).trustDomain !== config.trust_domain,
  );
  if (foreign !== undefined)
    throw new Fault('CONFIG_INVALID', `admin_ids: ${foreign} is not of ${config.trust_domain}`);
  return new Set(config.admin_ids);
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
