import type { X509Svid } from '../identity/x509-svid.ts';
import type { WatchedSource } from '../runtime/watched.ts';
import { createAccess } from './access/access.ts';
import { agentRegistryService } from './api/agent-registry-service.ts';
import { agentService } from './api/agent-service.ts';
import { agentSshService } from './api/agent-ssh-service.ts';
import { auditService } from './api/audit-service.ts';
import { authorityService } from './api/authority-service.ts';
import { bundleService } from './api/bundle-service.ts';
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
import { proofService } from './api/proof-service.ts';
import { registrarService } from './api/registrar-service.ts';
import { serverService } from './api/server-service.ts';
import { sshService } from './api/ssh-service.ts';
import { svidService } from './api/svid-service.ts';
import { trustDomainService } from './api/trust-domain-service.ts';
import { watchEntriesService } from './api/watch-entries.ts';
import { NodeAttestation } from './attestation/attest-agent.ts';
import { isSvidBarred } from './attestation/barred-svid.ts';
import { isIssuedHere } from './authority/issued-here.ts';
import { Issuer } from './authority/issuer.ts';
import { SshIssuer } from './authority/ssh-issuer.ts';
import { type Context, own } from './context.ts';
import type { Services } from './endpoints.ts';
import { limitedServices } from './limited-services.ts';
import type { Callers } from './open-callers.ts';
import type { Core } from './open-core.ts';
import type { Registry } from './open-registry.ts';
import { backendSetups, nodeAttestors } from './plugins/catalog.ts';
import { TtlPolicy } from './registry/ttl-policy.ts';

export interface ServiceParts {
  readonly core: Core;
  readonly registry: Registry;
  readonly callers: Callers;
  /** The server's own. */
  readonly svid: WatchedSource<X509Svid>;
}

/** The implementation of every service. */
export async function openServices(context: Context, parts: ServiceParts): Promise<Services> {
  const { config, store, clock, log, configuredLevel } = context;
  const { core, registry, callers, svid } = parts;
  const { audit, authority, keys } = core;
  const { mode, lock } = callers;
  const unlimited = await unlimitedServices(context, parts);
  return {
    ...limitedServices(unlimited, config.rate_limits, clock),
    server: {
      ...limitAdminSocketService({ mode }),
      ...serverService({ store, clock, audit, keys, trustDomain: config.trust_domain, lock }),
    },
    logger: loggerService({ store, audit, log, configuredLevel }),
    debug: debugService({
      ...{ reader: store, index: registry.index, clock },
      ...{ svid, bundle: authority.bundle },
    }),
  };
}

/** What agents, gateways and operators call, but for the server's own three. */
async function unlimitedServices(
  context: Context,
  { core, registry, callers }: ServiceParts,
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
      keys: core.keys,
      sessionMaximumSeconds: ttl.session_maximum,
      backendSetups: backendSetups(),
      sshAuthorities: sshAuthority.authorities,
      isIssuedHere: (chain) => isIssuedHere(chain, core.authorities.state.value),
      disconnectGateway: (id) => callers.gateways.disconnect(id),
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
    backend: {
      ...access.services.backend,
      ...proofService({ ...shared, authority: sshAuthority, trustDomain: config.trust_domain }),
    },
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
