import { join } from 'node:path';
import type { Bundle } from '../../identity/bundle.ts';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { WatchedSource } from '../../runtime/watched.ts';
import type { ServerConfig } from '../config.ts';
import type { BackendSetup } from './backend-setup/backend-setup.ts';
import { postgresBackendSetup } from './backend-setup/postgres.ts';
import type { Datastore } from './datastore/datastore.ts';
import { openPostgres } from './datastore/postgres.ts';
import { readPostgresUrl } from './datastore/postgres-url.ts';
import { openSqlite } from './datastore/sqlite.ts';
import { diskKeyManager } from './key-manager/disk.ts';
import type { KeyManager } from './key-manager/key-manager.ts';
import { memoryKeyManager } from './key-manager/memory.ts';
import { agentPathTemplate } from './node-attestor/agent-path.ts';
import { type JoinTokenStore, joinTokenAttestor } from './node-attestor/join-token.ts';
import { k8sPsatAttestor } from './node-attestor/k8s-psat.ts';
import type { NodeAttestor } from './node-attestor/node-attestor.ts';
import { oidcAttestor, type SpentTokenStore } from './node-attestor/oidc.ts';
import { readRoots } from './node-attestor/root-files.ts';
import { X509POP_FIELDS, x509PopAttestor } from './node-attestor/x509pop.ts';

export interface NodeAttestorOptions {
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
  readonly joinTokens: JoinTokenStore;
  readonly spentTokens: SpentTokenStore;
  /** The trust domain's own. */
  readonly bundle: WatchedSource<Bundle>;
}

/** The node attestors that the configuration names, by type. */
export function nodeAttestors(
  configured: ServerConfig['node_attestors'],
  options: NodeAttestorOptions,
): ReadonlyMap<string, NodeAttestor> {
  const { trustDomain, clock, joinTokens, spentTokens } = options;
  const attestors: NodeAttestor[] = [];
  if (configured.join_token !== undefined)
    attestors.push(joinTokenAttestor({ trustDomain, clock, tokens: joinTokens }));
  if (configured.x509pop !== undefined) attestors.push(x509Pop(configured.x509pop, options));
  if (configured.oidc !== undefined) {
    const { issuers } = configured.oidc;
    attestors.push(oidcAttestor({ trustDomain, clock, tokens: spentTokens, issuers }));
  }
  if (configured.k8s_psat !== undefined)
    attestors.push(k8sPsatAttestor({ trustDomain, clusters: configured.k8s_psat.clusters }));
  return new Map(attestors.map((attestor) => [attestor.type, attestor]));
}

function x509Pop(
  configured: NonNullable<ServerConfig['node_attestors']['x509pop']>,
  { trustDomain, clock, bundle }: NodeAttestorOptions,
): NodeAttestor {
  const { ca_bundle_files: files, svid_prefix: svidPrefix } = configured;
  const place = 'node_attestors.x509pop';
  const byDefault = svidPrefix === undefined ? 'Fingerprint' : 'SVIDPathTrimmed';
  const template = configured.agent_path_template ?? `/{{ .PluginName }}/{{ .${byDefault} }}`;
  const configuredRoots = files && readRoots(`${place}.ca_bundle_files`, files);
  return x509PopAttestor({
    ...{ trustDomain, clock, svidPrefix },
    agentPath: agentPathTemplate(`${place}.agent_path_template`, template, X509POP_FIELDS),
    roots: () =>
      configuredRoots ?? bundle.value.x509Authorities.map(({ certificate }) => certificate),
  });
}

/**
 * The store that the configuration names, with its schema brought up to date.
 * @throws Fault STATE_UNUSABLE, CONFIG_INVALID
 */
export function openDatastore({
  datastore: configured,
  state_dir: stateDir,
}: Pick<ServerConfig, 'datastore' | 'state_dir'>): Promise<Datastore> {
  return 'postgres' in configured
    ? openPostgres(readPostgresUrl(configured.postgres.url_file))
    : openSqlite(join(stateDir, 'server.db'));
}

/** The key manager that the configuration names. */
export function keyManager({
  key_manager: configured,
  state_dir: stateDir,
}: Pick<ServerConfig, 'key_manager' | 'state_dir'>): KeyManager {
  return 'memory' in configured
    ? memoryKeyManager()
    : diskKeyManager({ directory: join(stateDir, 'keys') });
}

/** What plans the setup of backends, by the type of backend. */
export function backendSetups(): ReadonlyMap<string, BackendSetup> {
  const setups = [postgresBackendSetup()];
  return new Map(setups.map((setup) => [setup.type, setup]));
}
