import type { TrustDomain } from '../../identity/spiffe-id.ts';
import type { ListEntriesRequest_Filter as Filter } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import type { Entry } from '../../proto/gen/spire/api/types/entry_pb.ts';
import type { FederatesWithMatch } from '../../proto/gen/spire/api/types/federateswith_pb.ts';
import type { SelectorMatch } from '../../proto/gen/spire/api/types/selector_pb.ts';
import type { SPIFFEID } from '../../proto/gen/spire/api/types/spiffeid_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { idText } from './entry-index.ts';
import { withoutToken } from './join-token-ids.ts';
import { checkedSelectors, matchesSet, type Selector, selectorText } from './selectors.ts';
import { memberId, trustDomainFromText } from './spiffe-id-message.ts';

/** Whether an entry is wanted. */
export type EntryPredicate = (entry: Entry) => boolean;

/** A filter without the name of its message: listing and counting have one each. */
export type EntryFilter = Omit<Filter, '$typeName'>;

/**
 * All conditions that are set must hold.
 * @param filter untrusted
 * @throws Fault INVALID_ARGUMENT
 */
export function entryPredicate(
  filter: EntryFilter | undefined,
  trustDomain: TrustDomain,
): EntryPredicate {
  if (filter === undefined) return () => true;
  const { bySpiffeId, byParentId, bySelectors, byFederatesWith, byHint } = filter;
  const conditions: EntryPredicate[] = [];
  if (bySpiffeId !== undefined) {
    const wanted = wantedId(bySpiffeId, trustDomain, 'by_spiffe_id');
    conditions.push(({ spiffeId }) => idText(spiffeId) === wanted);
  }
  if (byParentId !== undefined) {
    const wanted = wantedId(byParentId, trustDomain, 'by_parent_id');
    conditions.push(({ parentId }) => idText(parentId) === wanted);
  }
  if (bySelectors !== undefined) {
    const matches = selectorPredicate(bySelectors);
    conditions.push(({ selectors }) => matches(selectors));
  }
  if (byFederatesWith !== undefined) conditions.push(federationCondition(byFederatesWith));
  // As in SPIRE, `''` and `false` filter nothing.
  if (byHint !== undefined && byHint !== '') conditions.push(({ hint }) => hint === byHint);
  if (filter.byDownstream === true) conditions.push(({ downstream }) => downstream);
  return (entry) => conditions.every((holds) => holds(entry));
}

/** What stands there twice counts once. @throws Fault INVALID_ARGUMENT for an empty set */
export function selectorPredicate(
  match: SelectorMatch,
): (candidate: readonly Selector[]) => boolean {
  const distinct = new Map(match.selectors.map((one) => [selectorText(one), one])).values();
  const given = new Set(asMalformedFilter(() => checkedSelectors([...distinct])).map(selectorText));
  return (candidate) => matchesSet(new Set(candidate.map(selectorText)), given, match.match);
}

function federationCondition(match: FederatesWithMatch): EntryPredicate {
  if (match.trustDomains.length === 0)
    throw new Fault('INVALID_ARGUMENT', 'malformed filter: empty trust domain set');
  const given = asMalformedFilter(
    () => new Set<string>(match.trustDomains.map(trustDomainFromText)),
  );
  return ({ federatesWith }) => matchesSet(new Set(federatesWith), given, match.match);
}

function wantedId(id: SPIFFEID, trustDomain: TrustDomain, name: string): string {
  return withoutToken(asMalformedFilter(() => memberId(id, trustDomain, name))).toString();
}

function asMalformedFilter<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    throw new Fault('INVALID_ARGUMENT', `malformed filter: ${error.message}`);
  }
}
