import { join } from 'node:path';
import type { Bundle } from '../../identity/bundle.ts';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import type { VerifiedSvid } from '../../identity/verify.ts';
import type { Clock } from '../../runtime/clock.ts';
import { formatHostPort } from '../../runtime/config.ts';
import type { Logger } from '../../runtime/log.ts';
import type { WatchedSource } from '../../runtime/watched.ts';
import type { ServerConfig } from '../config.ts';
import type { BackendSetup } from './backend-setup/backend-setup.ts';
import { postgresBackendSetup } from './backend-setup/postgres.ts';
import type { Datastore } from './datastore/datastore.ts';
import { MIGRATIONS, type Migration } from './datastore/migrations.ts';
import { openPostgres } from './datastore/postgres.ts';
import { holdPostgresAlone, postgresSchemaVersion } from './datastore/postgres-schema.ts';
import { readPostgresUrl } from './datastore/postgres-url.ts';
import type { Upgrade } from './datastore/schema-upgrade.ts';
import { openSqlite } from './datastore/sqlite.ts';
import { sqliteSchemaVersion } from './datastore/sqlite-schema.ts';
import { diskKeyManager } from './key-manager/disk.ts';
import type { KeyManager } from './key-manager/key-manager.ts';
import { memoryKeyManager } from './key-manager/memory.ts';
import { agentPathTemplate } from './node-attestor/agent-path.ts';
import { awsIidAttestor } from './node-attestor/aws-iid.ts';
import { azureMsiAttestor } from './node-attestor/azure-msi.ts';
import { readCertificateKeys } from './node-attestor/certificate-keys.ts';
import { gcpIitAttestor } from './node-attestor/gcp-iit.ts';
import { type JoinTokenStore, joinTokenAttestor } from './node-attestor/join-token.ts';
import { IssuerKeys, jwksFromUrl } from './node-attestor/jwks.ts';
import { k8sPsatAttestor } from './node-attestor/k8s-psat.ts';
import type { NodeAttestor } from './node-attestor/node-attestor.ts';
import { oidcAttestor, type SpentTokenStore } from './node-attestor/oidc.ts';
import { readRoots } from './node-attestor/root-files.ts';
import { X509POP_FIELDS, x509PopAttestor } from './node-attestor/x509pop.ts';
import { diskUpstream } from './upstream-authority/disk.ts';
import { SpireUpstream } from './upstream-authority/spire.ts';
import type { UpstreamAuthority } from './upstream-authority/upstream-authority.ts';

export interface NodeAttestorOptions {
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
  readonly joinTokens: JoinTokenStore;
  readonly spentTokens: SpentTokenStore;
  /** The trust domain's own. */
  readonly bundle: WatchedSource<Bundle>;
  /** Whether an SVID that verifies was revoked or is locked. */
  isBarred(svid: VerifiedSvid): Promise<boolean>;
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
  attestors.push(...cloudAttestors(configured, options));
  return new Map(attestors.map((attestor) => [attestor.type, attestor]));
}

function cloudAttestors(
  { aws_iid: aws, gcp_iit: gcp, azure_msi: azure }: ServerConfig['node_attestors'],
  { trustDomain, clock, spentTokens: tokens }: NodeAttestorOptions,
): NodeAttestor[] {
  const shared = { trustDomain, clock, tokens };
  const keysAt = (url: string, caFile: string | undefined) =>
    new IssuerKeys({ source: jwksFromUrl(new URL(url), caFile), clock });
  const attestors: NodeAttestor[] = [];
  if (aws !== undefined) {
    const field = 'node_attestors.aws_iid.certificate_files';
    const keys = readCertificateKeys(field, aws.certificate_files);
    attestors.push(awsIidAttestor({ trustDomain, accountIds: aws.account_ids, keys }));
  }
  if (gcp !== undefined) {
    const { audience, project_ids: projectIds } = gcp;
    const keys = keysAt(gcp.jwks_url, gcp.ca_file);
    attestors.push(gcpIitAttestor({ ...shared, projectIds, audience, keys }));
  }
  if (azure !== undefined) {
    const tenants = azure.tenants.map(({ id, audience, ...tenant }) => {
      const byDefault = `https://login.microsoftonline.com/${id}/discovery/keys`;
      const keys = keysAt(tenant.jwks_url ?? byDefault, tenant.ca_file);
      return { id, audience, subscriptionIds: tenant.subscription_ids, keys };
    });
    attestors.push(azureMsiAttestor({ ...shared, tenants }));
  }
  return attestors;
}

function x509Pop(
  configured: NonNullable<ServerConfig['node_attestors']['x509pop']>,
  { trustDomain, clock, bundle, isBarred }: NodeAttestorOptions,
): NodeAttestor {
  const { ca_bundle_files: files = [], svid_prefix: prefix } = configured;
  const place = 'node_attestors.x509pop';
  const byDefault = prefix === undefined ? 'Fingerprint' : 'SVIDPathTrimmed';
  const template = configured.agent_path_template ?? `/{{ .PluginName }}/{{ .${byDefault} }}`;
  const facts = { plugin: 'x509pop', fields: X509POP_FIELDS };
  return x509PopAttestor({
    ...{ trustDomain, clock },
    agentPath: agentPathTemplate(`${place}.agent_path_template`, template, facts),
    source:
      prefix === undefined
        ? readRoots(`${place}.ca_bundle_files`, files)
        : { prefix, bundle: () => bundle.value, isBarred },
  });
}

type StorePlace = Pick<ServerConfig, 'datastore' | 'state_dir'>;

export interface OpenStoreOptions {
  /** Up to the version that the schema is to have; this program's unless told. */
  readonly migrations?: readonly Migration[];
  /** Without it a store of an older schema is refused. */
  readonly upgrade?: Upgrade;
}

/**
 * The store that the configuration names; an empty one gets its schema.
 * @throws Fault STATE_UNUSABLE, CONFIG_INVALID
 */
export function openDatastore(
  { datastore: configured, state_dir: stateDir }: StorePlace,
  { migrations = MIGRATIONS, upgrade }: OpenStoreOptions = {},
): Promise<Datastore> {
  return 'postgres' in configured
    ? openPostgres(readPostgresUrl(configured.postgres.url_file), migrations, upgrade)
    : openSqlite(sqliteFile(stateDir), migrations, upgrade);
}

/**
 * The version of the schema of the store that the configuration names, 0 if it is empty.
 * @throws Fault STATE_UNUSABLE, CONFIG_INVALID
 */
export async function storedSchema({
  datastore: configured,
  state_dir: stateDir,
}: StorePlace): Promise<number> {
  return 'postgres' in configured
    ? await postgresSchemaVersion(readPostgresUrl(configured.postgres.url_file))
    : sqliteSchemaVersion(sqliteFile(stateDir));
}

/**
 * Keeps the servers of other state directories from the store until it is disposed.
 * @throws Fault FAILED_PRECONDITION if one has it open
 */
export async function holdStoreAlone({
  datastore: configured,
}: StorePlace): Promise<AsyncDisposable> {
  if ('postgres' in configured)
    return await holdPostgresAlone(readPostgresUrl(configured.postgres.url_file));
  // Who holds the state directory holds the file in it.
  return { [Symbol.asyncDispose]: async () => undefined };
}

function sqliteFile(stateDir: string): string {
  return join(stateDir, 'server.db');
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

/**
 * The upstream authority that the configuration names, if it names one.
 * @throws Fault CONFIG_INVALID
 */
export async function upstreamAuthority(
  {
    upstream_authority: configured,
    trust_domain: trustDomain,
  }: Pick<ServerConfig, 'upstream_authority' | 'trust_domain'>,
  { clock, log }: { readonly clock: Clock; readonly log: Logger },
): Promise<UpstreamAuthority | undefined> {
  if (configured === undefined) return undefined;
  if ('spire' in configured) {
    const { server, workload_api_socket: workloadApiSocket } = configured.spire;
    const address = formatHostPort(server);
    return new SpireUpstream({ trustDomain, server: address, workloadApiSocket, clock, log });
  }
  const { cert_file: certFile, key_file: keyFile, bundle_file: bundleFile } = configured.disk;
  return diskUpstream({ trustDomain, clock, files: { certFile, keyFile, bundleFile } });
}

/** What plans the setup of backends, by the type of backend. */
export function backendSetups(): ReadonlyMap<string, BackendSetup> {
  const setups = [postgresBackendSetup()];
  return new Map(setups.map((setup) => [setup.type, setup]));
}
