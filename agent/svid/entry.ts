import { parseTrustDomain, SpiffeId, type TrustDomain } from '../../identity/spiffe-id.ts';
import type { Entry } from '../../proto/gen/spire/api/types/entry_pb.ts';

/** A registration entry as far as an agent needs it, checked. */
export interface AgentEntry {
  readonly id: string;
  readonly spiffeId: SpiffeId;
  /** `type:value`; at least one. A workload must hold all of them. */
  readonly selectors: readonly string[];
  readonly hint: string;
  /** Names of trust domains whose bundles its workloads get too. */
  readonly federatesWith: readonly TrustDomain[];
  /** With `createdAt` it tells whether a copy is stale: an id can be deleted and made again. */
  readonly revision: bigint;
  /** Unix seconds. */
  readonly createdAt: bigint;
  /** Issue only once a workload asks. */
  readonly onDemand: boolean;
  /** Every JWT-SVID gets a `jti` of its own, so none is handed out twice. */
  readonly freshJwt: boolean;
}

const MAXIMUM_TEXT = 1024;

/** Undefined for what an agent must not serve: malformed, of another trust domain, or `store_svid`. */
export function parseEntry(message: Entry, trustDomain: TrustDomain): AgentEntry | undefined {
  const { id, spiffeId, selectors, hint } = message;
  if (id === '' || spiffeId === undefined || message.storeSvid) return undefined;
  if (spiffeId.trustDomain !== trustDomain || selectors.length === 0) return undefined;
  if (selectors.some(({ type, value }) => type === '' || type.includes(':') || value === '')) {
    return undefined;
  }
  if (id.length > MAXIMUM_TEXT || hint.length > MAXIMUM_TEXT) return undefined;
  const parsedId = parseId(trustDomain, spiffeId.path);
  if (parsedId === undefined) return undefined;
  return {
    id,
    spiffeId: parsedId,
    selectors: selectors.map(({ type, value }) => `${type}:${value}`),
    hint,
    federatesWith: message.federatesWith.flatMap((name) => parseName(name) ?? []),
    revision: message.revisionNumber,
    createdAt: message.createdAt,
    onDemand: message.additionalAttributes?.disableX509SvidPrefetch ?? false,
    freshJwt: message.additionalAttributes?.jwtSvidIncludeJti ?? false,
  };
}

function parseId(trustDomain: TrustDomain, path: string): SpiffeId | undefined {
  try {
    const id = SpiffeId.parse(`spiffe://${trustDomain}${path}`);
    return id.path === '' ? undefined : id;
  } catch {
    return undefined;
  }
}

function parseName(name: string): TrustDomain | undefined {
  try {
    return parseTrustDomain(name);
  } catch {
    return undefined;
  }
}

/** Whether a workload with these selectors is entitled to the entry. */
export function entryMatches(entry: AgentEntry, held: ReadonlySet<string>): boolean {
  return entry.selectors.every((selector) => held.has(selector));
}

/** What the entries' selectors are about: `unix:path` of `unix:path:/bin/x`. */
export function selectorKinds(entries: readonly AgentEntry[]): ReadonlySet<string> {
  return new Set(entries.flatMap(({ selectors }) => selectors.map(kindOf)));
}

function kindOf(selector: string): string {
  const name = selector.indexOf(':') + 1;
  const end = selector.indexOf(':', name);
  return end < 0 ? selector : selector.slice(0, end);
}

/** Whether the entry says which program a workload runs. */
export function namesProgram({ selectors }: AgentEntry): boolean {
  return selectors.some((selector) => /^unix:(?:path|sha256):/.test(selector));
}

/**
 * Of entries with the same hint only the oldest is kept, the lower id where they are equally old.
 * Source: SPIFFE Workload API 5.2.1: a hint is unique within a response.
 */
export function withoutRepeatedHints<T extends { readonly entry: AgentEntry }>(
  identities: readonly T[],
): T[] {
  const oldest = new Map<string, AgentEntry>();
  for (const { entry } of identities) {
    const other = oldest.get(entry.hint);
    if (other === undefined || isOlder(entry, other)) oldest.set(entry.hint, entry);
  }
  return identities.filter(({ entry }) => entry.hint === '' || oldest.get(entry.hint) === entry);
}

function isOlder(a: AgentEntry, b: AgentEntry): boolean {
  return a.createdAt === b.createdAt ? a.id < b.id : a.createdAt < b.createdAt;
}
