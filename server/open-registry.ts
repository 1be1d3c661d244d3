import { SpiffeId } from '../identity/spiffe-id.ts';
import { Fault } from '../runtime/fault.ts';
import { pruneAgents } from './attestation/agent-pruning.ts';
import { Agents } from './attestation/agents.ts';
import { JoinTokens } from './attestation/join-tokens.ts';
import { SpentTokens } from './attestation/spent-tokens.ts';
import type { ServerConfig } from './config.ts';
import { type Context, follow, own } from './context.ts';
import type { Core } from './open-core.ts';
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
import { readWebAuthorities } from './registry/web-authorities.ts';

export type Registry = Awaited<ReturnType<typeof openRegistry>>;

/** Identities, entries, agents and join tokens, with the index of entries loaded. */
export async function openRegistry(context: Context, core: Core) {
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
  const { one_time: oneTimeSeconds, reattestable: reattestableSeconds } = config.prune_agents;
  const periods = { oneTimeSeconds, reattestableSeconds };
  own(closers, pruneAgents({ agents, clock, log, periods }));
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
