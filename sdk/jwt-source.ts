import type { SpiffeId } from '../identity/spiffe-id.ts';
import type { FetchedJwtSvid, WorkloadApiClient } from './workload-api-client.ts';

/**
 * One JWT-SVID for the audience: of `spiffeId`, or of the workload's default identity. Fetch one for
 * each use: the agent keeps them, and hands out another in time.
 * @throws `RpcError`, with status `PERMISSION_DENIED` if the workload has no such identity
 */
export async function fetchJwtSvid(
  client: Pick<WorkloadApiClient, 'fetchJwtSvids'>,
  audience: string | readonly string[],
  options: { readonly spiffeId?: SpiffeId; readonly signal: AbortSignal },
): Promise<FetchedJwtSvid> {
  const audiences = typeof audience === 'string' ? [audience] : audience;
  const [first] = await client.fetchJwtSvids(audiences, options);
  if (first === undefined) throw new Error('fetchJwtSvids answers with at least one');
  return first;
}
