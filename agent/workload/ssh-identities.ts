import { Fault } from '../../runtime/fault.ts';
import type { Identity, SvidCache } from '../svid/cache.ts';
import { attestLineage, type LineageOptions } from './attest-lineage.ts';
import type { AttestedProcess } from './attest-peer.ts';
import { matchLineage } from './match-lineage.ts';

export interface SshIdentitiesOptions extends LineageOptions {
  readonly cache: SvidCache;
}

/**
 * The identities that a process may use for SSH now, the one to prefer first.
 * @throws Fault as attestLineage; `UNAVAILABLE` before the first sync
 */
export async function sshIdentities(
  peer: AttestedProcess,
  options: SshIdentitiesOptions,
): Promise<readonly Identity[]> {
  const lineage = await attestLineage(peer, options);
  const { identities, synced } = options.cache.state.value;
  if (!synced) throw new Fault('UNAVAILABLE', 'the agent has not heard from its server yet');
  return matchLineage(identities, lineage);
}
