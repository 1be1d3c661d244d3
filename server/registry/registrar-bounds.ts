import type { Entry } from '../../proto/gen/spire/api/types/entry_pb.ts';
import { idText } from './entry-index.ts';
import type { RegistrarRecord } from './registrars.ts';
import { type Selector, selectorText } from './selectors.ts';
import { trustDomainFromText } from './spiffe-id-message.ts';

/** A bound that an entry breaks, and what is told of it; names what the registrar itself wrote, and no more. */
export interface BrokenBound {
  readonly bound: string;
  readonly says: string;
}

/** TTLs that entries without their own get. */
export interface DefaultTtls {
  readonly x509Seconds: number;
  readonly jwtSeconds: number;
}

type Bounds = Omit<RegistrarRecord, 'spiffeId' | 'defaults' | 'createdAt'>;

/** Why an entry is none of a registrar's: by its SPIFFE ID, its parent or the power it gives. */
export function brokenPlace(bounds: Bounds, entry: Entry): BrokenBound | undefined {
  if (!bounds.spiffeIds.some((pattern) => matchesId(pattern, idText(entry.spiffeId))))
    return broken('spiffe_ids', 'the SPIFFE ID');
  if (!bounds.parents.some((pattern) => matchesId(pattern, idText(entry.parentId))))
    return broken('parents', 'the parent ID');
  if (entry.admin) return never('admin');
  if (entry.downstream) return never('downstream');
  return entry.storeSvid ? never('store_svid') : undefined;
}

/** The first bound that an entry would break if it were written. */
export function brokenBound(
  bounds: Bounds,
  entry: Entry,
  byDefault: DefaultTtls,
): BrokenBound | undefined {
  return brokenPlace(bounds, entry) ?? brokenContent(bounds, entry, byDefault);
}

function brokenContent(
  bounds: Bounds,
  entry: Entry,
  { x509Seconds, jwtSeconds }: DefaultTtls,
): BrokenBound | undefined {
  const selectors = brokenSelectors(bounds.selectors, entry.selectors);
  if (selectors !== undefined) return selectors;
  const name = entry.dnsNames.find((one) => !bounds.dnsNames.some((own) => matchesName(own, one)));
  if (name !== undefined) return broken('dns_names', JSON.stringify(name));
  const foreign = entry.federatesWith.find(
    (one) => !bounds.federatesWith.includes(trustDomainFromText(one)),
  );
  if (foreign !== undefined) return broken('federates_with', JSON.stringify(foreign));
  if (entry.hint !== '' && !bounds.hint) return never('hint');
  const x509 = bounds.maxX509SvidTtlSeconds || x509Seconds;
  if ((entry.x509SvidTtl || x509Seconds) > x509) return longer('max_x509_svid_ttl', x509);
  const jwt = bounds.maxJwtSvidTtlSeconds || jwtSeconds;
  return (entry.jwtSvidTtl || jwtSeconds) > jwt ? longer('max_jwt_svid_ttl', jwt) : undefined;
}

/** Each bound is met by at least one selector, and each selector meets at least one bound. */
function brokenSelectors(
  bounds: readonly string[],
  selectors: readonly Selector[],
): BrokenBound | undefined {
  const unmet = bounds.find((bound) => !selectors.some((one) => matchesSelector(bound, one)));
  if (unmet !== undefined)
    return {
      bound: 'selectors',
      says: `selectors: each entry of this registrar has one of ${unmet}`,
    };
  const stray = selectors.find((one) => !bounds.some((bound) => matchesSelector(bound, one)));
  return stray && broken('selectors', JSON.stringify(selectorText(stray).slice(0, 200)));
}

/**
 * Whether an ID is the one that a pattern names or, after `/*`, lies below it. What lies below `/spire` or
 * `/writ` is matched only by a pattern that says so.
 */
export function matchesId(pattern: string, id: string): boolean {
  if (!pattern.endsWith('/*')) return pattern === id;
  const prefix = pattern.slice(0, -1);
  return id.startsWith(prefix) && (isReserved(prefix) || !isReserved(id));
}

function isReserved(id: string): boolean {
  return /^spiffe:\/\/[^/]+\/(?:spire|writ)(?:\/|$)/.test(id);
}

function matchesSelector(bound: string, { type, value }: Selector): boolean {
  return bound === type || bound === `${type}:${value}`;
}

/** After `*.`, as in a certificate: one label, which may be the asterisk itself. */
function matchesName(pattern: string, asked: string): boolean {
  const name = asked.toLowerCase();
  if (!pattern.startsWith('*.')) return pattern === name;
  const dot = name.indexOf('.');
  return dot > 0 && name.slice(dot) === pattern.slice(1);
}

function broken(bound: string, what: string): BrokenBound {
  return { bound, says: `${bound}: ${what} is outside what this registrar may register` };
}

function never(bound: string): BrokenBound {
  return { bound, says: `${bound}: not for this registrar to set or to change` };
}

function longer(bound: string, seconds: number): BrokenBound {
  return { bound, says: `${bound}: write at most ${seconds} s` };
}
