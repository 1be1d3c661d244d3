import { SVID } from '../../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { RpcError } from '../../runtime/grpc-client.ts';
import type { ServerLink } from '../server-link.ts';
import type { AgentEntry } from './entry.ts';
import type { MintedJwt, MintJwt } from './jwt-cache.ts';

const TIMEOUT_MS = 5000;
const REFUSALS: ReadonlySet<string> = new Set([
  'FAILED_PRECONDITION',
  'NOT_FOUND',
  'PERMISSION_DENIED',
]);

/** Mints over the agent's link, whoever waits for it: `signal` is the agent's own end. */
export function mintJwtOver(link: ServerLink, signal: AbortSignal, onMinted: () => void): MintJwt {
  return async (entry, audience) => {
    try {
      const minted = await mint(link, entry, audience, signal);
      onMinted();
      return minted;
    } catch (error) {
      throw faultOf(error);
    }
  };
}

async function mint(
  link: ServerLink,
  entry: AgentEntry,
  audience: readonly string[],
  signal: AbortSignal,
): Promise<MintedJwt> {
  const request = { entryId: entry.id, audience: [...audience] };
  const { svid } = await link.call((channel) =>
    channel.client(SVID).newJWTSVID(request, { signal, timeoutMs: TIMEOUT_MS }),
  );
  const { trustDomain, path } = entry.spiffeId;
  if (svid?.id?.trustDomain !== trustDomain || svid.id.path !== path) {
    throw new Fault('PROTOCOL_VIOLATION', 'the server minted a JWT-SVID of another identity');
  }
  const { token, issuedAt, expiresAt } = svid;
  if (token === '' || issuedAt === 0n || expiresAt <= issuedAt) {
    throw new Fault('PROTOCOL_VIOLATION', 'the server minted a JWT-SVID without its times');
  }
  return { token, expiresAt: new Date(Number(expiresAt) * 1000) };
}

/** What a workload may know of a failure at the server. */
function faultOf(cause: unknown): Fault {
  if (cause instanceof RpcError && REFUSALS.has(cause.status)) {
    return new Fault('PERMISSION_DENIED', 'no identity issued', { cause });
  }
  if (cause instanceof RpcError && cause.status === 'INVALID_ARGUMENT') {
    return new Fault('INVALID_ARGUMENT', 'the server refused the audience', { cause });
  }
  return new Fault('UNAVAILABLE', 'no JWT-SVID can be minted now', { cause });
}
