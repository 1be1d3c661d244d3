import type { Entry } from '../../proto/gen/spire/api/types/entry_pb.ts';
import type { SPIFFEID } from '../../proto/gen/spire/api/types/spiffeid_pb.ts';
import { type Selector, selectorText } from './selectors.ts';
import { SortedIds } from './sorted-ids.ts';

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

/** Whom a change may concern. */
export interface Concerned {
  /** SPIFFE IDs of agents, and of aliases whose agents are meant. */
  readonly ids: ReadonlySet<string>;
  /** Selectors of aliases that came, changed or went: the agents that have all of a set are meant. */
  readonly aliases: readonly (readonly string[])[];
}

/** An entry that an agent may serve. */
export interface Reached {
  readonly entry: Entry;
  /** SPIFFE IDs from the agent, or an alias of it, down to the entry's parent. */
  readonly through: readonly string[];
}

/** What may concern agents, as far as it is the index's to tell. */
export type Changed =
  | { readonly kind: 'entry'; readonly id: string }
  | { readonly kind: 'identity'; readonly spiffeId: string }
  | { readonly kind: 'agent' | 'any' };

interface Indexed {
  readonly entry: Entry;
  readonly spiffeId: string;
  /** Of node aliases alone: a hundred thousand lists would be in memory for nothing. */
  readonly aliasSelectors: readonly string[] | undefined;
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
  readonly #byParent: Groups = new Map();
  readonly #bySpiffeId: Groups = new Map();
  /** Node aliases by their first selector: an agent that matches one has all of its selectors. */
  readonly #aliases: Groups = new Map();
  readonly #standings = new Map<string, Standing>();
  readonly #ids = new SortedIds();
  /** No end lies before it but those that `nextExpiryMs` was told to look behind. */
  #nextExpiryMs = Number.NEGATIVE_INFINITY;

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
    else this.#ids.add(entry.id);
    const indexed = indexedEntry(entry, this.#serverId);
    this.#byId.set(entry.id, indexed);
    for (const [map, key] of this.#places(indexed)) addTo(map, key, indexed);
    this.#nextExpiryMs = Math.min(this.#nextExpiryMs, indexed.expiresAtMs);
  }

  remove(id: string): void {
    if (!this.#byId.has(id)) return;
    this.#unlink(id);
    this.#byId.delete(id);
    this.#ids.delete(id);
  }

  setStanding(spiffeId: string, standing: Standing): void {
    this.#standings.set(spiffeId, standing);
    this.#nextExpiryMs = Math.min(this.#nextExpiryMs, standing.expiresAtMs);
  }

  /** Takes the place of all there was. */
  replace(entries: Iterable<Entry>, standings: Iterable<readonly [string, Standing]>): void {
    for (const id of [...this.#byId.keys()]) this.remove(id);
    this.#standings.clear();
    for (const entry of entries) this.put(entry);
    for (const [spiffeId, standing] of standings) this.setStanding(spiffeId, standing);
  }

  /** Whom a change of these may concern, as the index stands. */
  concernedBy(changes: Iterable<Changed>): Concerned {
    const ids = new Set<string>();
    const aliases: (readonly string[])[] = [];
    const climb = (indexed: Indexed) => {
      if (indexed.aliasSelectors !== undefined) aliases.push(indexed.aliasSelectors);
      else ids.add(parentOf(indexed));
    };
    for (const change of changes) {
      const indexed = change.kind === 'entry' ? this.#byId.get(change.id) : undefined;
      if (indexed !== undefined) climb(indexed);
      if (change.kind === 'identity')
        for (const one of membersOf(this.#bySpiffeId, change.spiffeId)) climb(one);
    }
    // A Set that grows while it is walked visits what is added, and each id once.
    for (const id of ids) for (const above of membersOf(this.#bySpiffeId, id)) climb(above);
    return { ids, aliases };
  }

  /** Entries in the order of their ids, those after `afterId` alone. */
  *after(afterId: string): Iterable<Entry> {
    for (const id of this.#ids.after(afterId)) {
      const indexed = this.#byId.get(id);
      if (indexed !== undefined) yield indexed.entry;
    }
  }

  /** What the agent may serve, by id: direct children, children of its aliases, and their children. */
  authorisedFor(agent: IndexedAgent, now: Date): Entry[] {
    return this.reachOf(agent, now).map(({ entry }) => entry);
  }

  /** The same, with the IDs on the way to each. */
  reachOf(agent: IndexedAgent, now: Date): Reached[] {
    const found = new Map<string, Reached>();
    const parents = this.#roots(agent, now).map((id) => [id]);
    const seen = new Set(parents.map(([id]) => id));
    for (let path = parents.pop(); path !== undefined; path = parents.pop()) {
      for (const child of membersOf(this.#byParent, path.at(-1) ?? '')) {
        if (!this.#isLive(child, now)) continue;
        const { entry, spiffeId } = child;
        if (!found.has(entry.id)) found.set(entry.id, { entry, through: path });
        if (seen.has(spiffeId)) continue;
        seen.add(spiffeId);
        parents.push([...path, spiffeId]);
      }
    }
    return [...found.keys()].sort().flatMap((id) => found.get(id) ?? []);
  }

  /** The entry, if `authorisedFor` would return it; walks up from it, so its cost is small. */
  authorisedEntry(agent: IndexedAgent, entryId: string, now: Date): Entry | undefined {
    const asked = this.#byId.get(entryId);
    if (asked === undefined || !this.#isLive(asked, now)) return undefined;
    const roots = new Set(this.#roots(agent, now));
    const pending = new Set([parentOf(asked)]);
    // A Set that grows while it is walked visits what is added, and each id once.
    for (const parent of pending) {
      if (roots.has(parent)) return asked.entry;
      for (const above of membersOf(this.#bySpiffeId, parent)) {
        if (this.#isLive(above, now)) pending.add(parentOf(above));
      }
    }
    return undefined;
  }

  /**
   * The earliest end after `after` of any entry or identity, as Unix milliseconds; Infinity if none.
   * Earlier than that if what ended then has changed or gone since.
   */
  nextExpiryMs(after: Date): number {
    const afterMs = after.getTime();
    if (this.#nextExpiryMs <= afterMs) {
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
      for (const alias of membersOf(this.#aliases, selector)) {
        const isOwn = alias.aliasSelectors?.every((one) => own.has(one)) === true;
        if (isOwn && this.#isLive(alias, now)) roots.add(alias.spiffeId);
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

  #places(indexed: Indexed): [Groups, string][] {
    const { spiffeId, aliasSelectors } = indexed;
    const places: [Groups, string][] = [
      [this.#byParent, parentOf(indexed)],
      [this.#bySpiffeId, spiffeId],
    ];
    if (aliasSelectors !== undefined) places.push([this.#aliases, aliasSelectors[0] ?? '']);
    return places;
  }

  #unlink(id: string): void {
    const indexed = this.#byId.get(id);
    if (indexed === undefined) return;
    for (const [groups, key] of this.#places(indexed)) removeFrom(groups, key, indexed);
  }
}

/** The text of an ID that has been checked. */
export function idText(id: SPIFFEID | undefined): string {
  return id === undefined ? '' : `spiffe://${id.trustDomain}${id.path}`;
}

function indexedEntry(entry: Entry, serverId: string): Indexed {
  const isAlias = idText(entry.parentId) === serverId;
  return {
    entry,
    spiffeId: idText(entry.spiffeId),
    aliasSelectors: isAlias ? entry.selectors.map(selectorText) : undefined,
    expiresAtMs: entry.expiresAt === 0n ? Number.POSITIVE_INFINITY : Number(entry.expiresAt) * 1000,
  };
}

function parentOf({ entry }: Indexed): string {
  return idText(entry.parentId);
}

/** Most groups are of one, which then stands there without a Set around it. */
type Groups = Map<string, Indexed | Set<Indexed>>;

function* membersOf(groups: Groups, key: string): Generator<Indexed> {
  const group = groups.get(key);
  if (group instanceof Set) yield* group;
  else if (group !== undefined) yield group;
}

function addTo(groups: Groups, key: string, indexed: Indexed): void {
  const group = groups.get(key);
  if (group === undefined) groups.set(key, indexed);
  else if (group instanceof Set) group.add(indexed);
  else groups.set(key, new Set([group, indexed]));
}

function removeFrom(groups: Groups, key: string, indexed: Indexed): void {
  const group = groups.get(key);
  if (group === indexed) groups.delete(key);
  else if (group instanceof Set && group.delete(indexed) && group.size === 0) groups.delete(key);
}
