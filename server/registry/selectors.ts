import type { FederatesWithMatch_MatchBehavior } from '../../proto/gen/spire/api/types/federateswith_pb.ts';
import { SelectorMatch_MatchBehavior as Match } from '../../proto/gen/spire/api/types/selector_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { textWithoutToken } from './join-token-ids.ts';

/** One attested property, e.g. type `unix` and value `uid:1000`. */
export interface Selector {
  readonly type: string;
  readonly value: string;
}

const MAXIMUM_TYPE = 64;
const MAXIMUM_VALUE = 4096;
const MAXIMUM_SELECTORS = 256;

/** The text form; unambiguous, because a type has no colon. */
export function selectorText({ type, value }: Selector): string {
  return `${type}:${value}`;
}

/**
 * Checks a list of selectors and sorts it, so that equal sets are equal lists.
 * @param selectors untrusted
 * @throws Fault INVALID_ARGUMENT, ALREADY_EXISTS for a selector that stands there twice (as in SPIRE)
 */
export function checkedSelectors(selectors: readonly Selector[]): Selector[] {
  if (selectors.length === 0) throw invalid('selector list is empty');
  if (selectors.length > MAXIMUM_SELECTORS)
    throw invalid(`more than ${MAXIMUM_SELECTORS} selectors`);
  const byText = new Map<string, Selector>();
  for (const { type, value } of selectors) {
    checkSelector(type, value);
    const kept = { type, value: type === 'spiffe_id' ? textWithoutToken(value) : value };
    if (selectors.length === 1) return [kept];
    const text = selectorText(kept);
    if (byText.has(text)) throw new Fault('ALREADY_EXISTS', 'a selector stands there twice');
    byText.set(text, kept);
  }
  return [...byText].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, selector]) => selector);
}

function checkSelector(type: string, value: string): void {
  if (type === '') throw invalid('missing selector type');
  if (type.includes(':')) throw invalid("selector type contains ':'");
  if (value === '') throw invalid('missing selector value');
  if (type.length > MAXIMUM_TYPE) throw invalid(`selector type longer than ${MAXIMUM_TYPE}`);
  if (value.length > MAXIMUM_VALUE) throw invalid(`selector value longer than ${MAXIMUM_VALUE}`);
  if (type.includes('\0') || value.includes('\0')) throw invalid('selector with a NUL');
}

/** A sorted list as the store's `selectors` columns hold it. */
export function selectorsToJson(selectors: readonly Selector[]): string {
  return JSON.stringify(selectors.map(({ type, value }) => [type, value]));
}

/** Reads what `selectorsToJson` wrote. */
export function selectorsFromJson(json: string): Selector[] {
  const pairs: [string, string][] = JSON.parse(json);
  return pairs.map(([type, value]) => ({ type, value }));
}

/** How a candidate's set relates to a given one. The proto's two match enums have the same numbers. */
export function matchesSet(
  candidate: ReadonlySet<string>,
  given: ReadonlySet<string>,
  behavior: Match | FederatesWithMatch_MatchBehavior,
): boolean {
  const shared = [...candidate].filter((one) => given.has(one)).length;
  switch (behavior) {
    case Match.MATCH_EXACT:
      return shared === candidate.size && shared === given.size;
    case Match.MATCH_SUBSET:
      return shared === candidate.size && shared > 0;
    case Match.MATCH_SUPERSET:
      return shared === given.size;
    case Match.MATCH_ANY:
      return shared > 0;
    default:
      throw invalid('unknown match behavior');
  }
}

function invalid(message: string): Fault {
  return new Fault('INVALID_ARGUMENT', message);
}
