import type { Entry } from '../../proto/gen/spire/api/types/entry_pb.ts';
import type { SPIFFEID } from '../../proto/gen/spire/api/types/spiffeid_pb.ts';
import { type Selector, selectorText } from './selectors.ts';

/** An agent, as far as the choice of its entries goes. */
export interface IndexedAgent {
  readonly id: string;
  /** As its attestor gave them. `spiffe_id:<id>` goes without saying. */
  readonly selectors: readonly Selector[];
}

/** What an identity record says about issuing. */
export interface Standing {
  readonly isActive: boolean;
  readonly expiresAtMs: number;
}

interface Indexed {
  readonly entry: Entry;
  readonly spiffeId: string;
  readonly parentId: string;
  readonly selectors: readonly string[];
  /** Infinity: with its identity. */
  readonly expiresAtMs: number;
}

/**
 * All entries in memory, fed after each commit, so that no call of an agent reads all rows. Within a
 * transaction it shows what was committed before. Entries are shared: never change one.
 */
export class EntryIndex {
  readonly #serverId: string;
  readonly #byId = new Map<string, Indexed>();
  readonly #byParent = new Map<string, Set<Indexed>>();
  readonly #bySpiffeId = new Map<string, Set<Indexed>>();
  /** Node aliases by their first selector: an agent that matches one has all of its selectors. */
  readonly #aliases = new Map<string, Set<Indexed>>();
  readonly #standings = new Map<string, Standing>();
  #ids: string[] = [];
  #nextExpiryMs: number | undefined;

  /** @param serverId parent of node aliases, `spiffe://<trust domain>/spire/server` */
  constructor(serverId: string) {
    this.#serverId = serverId;
  }

  get size(): number {
    return this.#byId.size;
  }

  get(id: string): Entry | undefined {
    return this.#byId.get(id)?.entry;
  }

  put(entry: Entry): void {
    if (this.#byId.has(entry.id)) this.#unlink(entry.id);
    else this.#ids.splice(this.#rank(entry.id), 0, entry.id);
    const indexed = indexedEntry(entry);
    this.#byId.set(entry.id, indexed);
    for (const [map, key] of this.#places(indexed)) addTo(map, key, indexed);
    this.#nextExpiryMs = undefined;
  }

  remove(id: string): void {
    if (!this.#byId.has(id)) return;
    this.#unlink(id);
    this.#byId.delete(id);
    this.#ids.splice(this.#rank(id), 1);
    this.#nextExpiryMs = undefined;
  }

  setStanding(spiffeId: string, standing: Standing): void {
    this.#standings.set(spiffeId, standing);
    this.#nextExpiryMs = undefined;
  }

  /** Entries in the order of their ids, those after `afterId` alone. */
  *after(afterId: string): Iterable<Entry> {
    let at = this.#rank(afterId);
    if (this.#ids[at] === afterId) at += 1;
    for (; at < this.#ids.length; at += 1) {
      const indexed = this.#byId.get(this.#ids[at] ?? '');
      if (indexed !== undefined) yield indexed.entry;
    }
  }

  /** What the agent may serve, by id: direct children, children of its aliases, and their children. */
  authorisedFor(agent: IndexedAgent, now: Date): Entry[] {
    const found = new Map<string, Indexed>();
    const parents = this.#roots(agent, now);
    const seen = new Set(parents);
    for (let parent = parents.pop(); parent !== undefined; parent = parents.pop()) {
      for (const child of this.#byParent.get(parent) ?? []) {
        if (!this.#isLive(child, now)) continue;
        found.set(child.entry.id, child);
        if (seen.has(child.spiffeId)) continue;
        seen.add(child.spiffeId);
        parents.push(child.spiffeId);
      }
    }
    return [...found.keys()].sort().flatMap((id) => found.get(id)?.entry ?? []);
  }

  /** The entry, if `authorisedFor` would return it; walks up from it, so its cost is small. */
  authorisedEntry(agent: IndexedAgent, entryId: string, now: Date): Entry | undefined {
    const asked = this.#byId.get(entryId);
    if (asked === undefined || !this.#isLive(asked, now)) return undefined;
    const roots = new Set(this.#roots(agent, now));
    const pending = new Set([asked.parentId]);
    // A Set that grows while it is walked visits what is added, and each id once.
    for (const parent of pending) {
      if (roots.has(parent)) return asked.entry;
      for (const above of this.#bySpiffeId.get(parent) ?? []) {
        if (this.#isLive(above, now)) pending.add(above.parentId);
      }
    }
    return undefined;
  }

  /** The earliest end after `after` of any entry or identity, as Unix milliseconds; Infinity if none. */
  nextExpiryMs(after: Date): number {
    const afterMs = after.getTime();
    if (this.#nextExpiryMs === undefined || this.#nextExpiryMs <= afterMs) {
      let next = Number.POSITIVE_INFINITY;
      const consider = ({ expiresAtMs }: { readonly expiresAtMs: number }) => {
        if (expiresAtMs > afterMs && expiresAtMs < next) next = expiresAtMs;
      };
      this.#byId.forEach(consider);
      this.#standings.forEach(consider);
      this.#nextExpiryMs = next;
    }
    return this.#nextExpiryMs;
  }

  /** The agent's ID and the SPIFFE IDs of the aliases whose selectors it has. */
  #roots(agent: IndexedAgent, now: Date): string[] {
    const own = new Set([...agent.selectors.map(selectorText), `spiffe_id:${agent.id}`]);
    const roots = new Set([agent.id]);
    for (const selector of own) {
      for (const alias of this.#aliases.get(selector) ?? []) {
        if (alias.selectors.every((one) => own.has(one)) && this.#isLive(alias, now))
          roots.add(alias.spiffeId);
      }
    }
    return [...roots];
  }

  #isLive({ spiffeId, expiresAtMs }: Indexed, now: Date): boolean {
    const standing = this.#standings.get(spiffeId);
    return (
      expiresAtMs > now.getTime() &&
      standing?.isActive === true &&
      standing.expiresAtMs > now.getTime()
    );
  }

  #places(indexed: Indexed): [Map<string, Set<Indexed>>, string][] {
    const { parentId, spiffeId, selectors } = indexed;
    const places: [Map<string, Set<Indexed>>, string][] = [
      [this.#byParent, parentId],
      [this.#bySpiffeId, spiffeId],
    ];
    if (parentId === this.#serverId) places.push([this.#aliases, selectors[0] ?? '']);
    return places;
  }

  #unlink(id: string): void {
    const indexed = this.#byId.get(id);
    if (indexed === undefined) return;
    for (const [map, key] of this.#places(indexed)) {
      const set = map.get(key);
      set?.delete(indexed);
      if (set?.size === 0) map.delete(key);
    }
  }

  /** Where `id` stands, or would stand, in the sorted list. */
  #rank(id: string): number {
    let low = 0;
    let high = this.#ids.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#ids[middle] ?? '') < id) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** The text of an ID that has been checked. */
export function idText(id: SPIFFEID | undefined): string {
  return id === undefined ? '' : `spiffe://${id.trustDomain}${id.path}`;
}

function indexedEntry(entry: Entry): Indexed {
  return {
    entry,
    spiffeId: idText(entry.spiffeId),
    parentId: idText(entry.parentId),
    selectors: entry.selectors.map(selectorText),
    expiresAtMs: entry.expiresAt === 0n ? Number.POSITIVE_INFINITY : Number(entry.expiresAt) * 1000,
  };
}

function addTo(map: Map<string, Set<Indexed>>, key: string, indexed: Indexed): void {
  const set = map.get(key);
  if (set === undefined) map.set(key, new Set([indexed]));
  else set.add(indexed);
}
