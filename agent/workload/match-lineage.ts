import type { Identity } from '../svid/cache.ts';
import { entryMatches, namesProgram } from '../svid/entry.ts';
import type { Lineage } from './attest-lineage.ts';

/**
 * The identities that a process may use by its lineage. An entry that names a program is matched with
 * the nearest process that holds all its selectors, any other with the caller alone. First come those
 * of programs, the nearest first, then the others in their order; each SPIFFE ID once, none that Writ
 * keeps for itself or that the server has refused.
 */
export function matchLineage(identities: readonly Identity[], lineage: Lineage): Identity[] {
  const found = identities
    .filter(({ entry, lack }) => !entry.spiffeId.isReserved && lack !== 'refused')
    .map((identity) => ({ identity, distance: distanceOf(identity, lineage) }))
    .filter(({ distance }) => distance >= 0)
    .sort((a, b) => a.distance - b.distance);
  const once = new Map<string, Identity>();
  for (const { identity } of found) {
    const id = String(identity.entry.spiffeId);
    if (!once.has(id)) once.set(id, identity);
  }
  return [...once.values()];
}

/** Steps from the caller to the process that holds the entry; -1 if none does. */
function distanceOf({ entry }: Identity, lineage: Lineage): number {
  if (namesProgram(entry)) return lineage.findIndex((held) => entryMatches(entry, held));
  const [caller] = lineage;
  return caller !== undefined && entryMatches(entry, caller) ? lineage.length : -1;
}
