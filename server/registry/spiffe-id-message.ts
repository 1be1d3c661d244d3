import { parseTrustDomain, SpiffeId, type TrustDomain } from '../../identity/spiffe-id.ts';
import type { SPIFFEID } from '../../proto/gen/spire/api/types/spiffeid_pb.ts';
import { Fault } from '../../runtime/fault.ts';

/**
 * The ID of a message, if it is one of the trust domain with a path.
 * @param id untrusted
 * @param name what the error calls it
 * @throws Fault INVALID_ARGUMENT
 */
export function memberId(
  id: Pick<SPIFFEID, 'trustDomain' | 'path'> | undefined,
  trustDomain: TrustDomain,
  name: string,
): SpiffeId {
  if (id === undefined) throw invalid(`${name} is missing`);
  let parsed: SpiffeId;
  try {
    parsed = SpiffeId.parse(`spiffe://${id.trustDomain}${id.path}`);
  } catch (error) {
    throw invalid(`${name}: ${error instanceof Fault ? error.message : 'malformed'}`);
  }
  // A trust domain with a slash in it would have become part of the path.
  if (parsed.trustDomain !== id.trustDomain || parsed.trustDomain !== trustDomain)
    throw invalid(`${name} is not a member of trust domain ${trustDomain}`);
  if (parsed.path === '') throw invalid(`${name} has no path`);
  return parsed;
}

/** The same for an ID as one string. */
export function memberIdFromText(text: string, trustDomain: TrustDomain, name: string): SpiffeId {
  const scheme = 'spiffe://';
  if (!text.startsWith(scheme)) throw invalid(`${name}: write spiffe://${trustDomain}/path`);
  const rest = text.slice(scheme.length);
  const slash = rest.indexOf('/');
  return slash < 0
    ? memberId({ trustDomain: rest, path: '' }, trustDomain, name)
    : memberId({ trustDomain: rest.slice(0, slash), path: rest.slice(slash) }, trustDomain, name);
}

/**
 * A trust domain by its name or, as SPIRE's CLI sends it, by an ID of it.
 * @param text untrusted
 * @throws Fault SPIFFE_ID_INVALID
 */
export function trustDomainFromText(text: string): TrustDomain {
  return text.includes('://') ? SpiffeId.parse(text).trustDomain : parseTrustDomain(text);
}

/** An ID as SPIRE's messages carry it. */
export function idMessage({ trustDomain, path }: SpiffeId): { trustDomain: string; path: string } {
  return { trustDomain, path };
}

function invalid(message: string): Fault {
  return new Fault('INVALID_ARGUMENT', message);
}
