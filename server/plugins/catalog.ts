import { join } from 'node:path';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { ServerConfig } from '../config.ts';
import type { BackendSetup } from './backend-setup/backend-setup.ts';
import { postgresBackendSetup } from './backend-setup/postgres.ts';
import { diskKeyManager } from './key-manager/disk.ts';
import type { KeyManager } from './key-manager/key-manager.ts';
import { type JoinTokenStore, joinTokenAttestor } from './node-attestor/join-token.ts';
import type { NodeAttestor } from './node-attestor/node-attestor.ts';

export interface NodeAttestorOptions {
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
  readonly joinTokens: JoinTokenStore;
}

/** The node attestors that the configuration names, by type. */
export function nodeAttestors(
  configured: ServerConfig['node_attestors'],
  { trustDomain, clock, joinTokens }: NodeAttestorOptions,
): ReadonlyMap<string, NodeAttestor> {
  const attestors: NodeAttestor[] = [];
  if (configured.join_token !== undefined)
    attestors.push(joinTokenAttestor({ trustDomain, clock, tokens: joinTokens }));
  return new Map(attestors.map((attestor) => [attestor.type, attestor]));
}

/** The one key manager there is. */
export function keyManager(stateDir: string): KeyManager {
  return diskKeyManager({ directory: join(stateDir, 'keys') });
}

/** What plans the setup of backends, by the type of backend. */
export function backendSetups(): ReadonlyMap<string, BackendSetup> {
  const setups = [postgresBackendSetup()];
  return new Map(setups.map((setup) => [setup.type, setup]));
}
