/**
 * What the agent may serve: its entries, and for each the newest X509-SVID with its key, in memory
 * alone. Workload streams read `state`, so that a fetch never waits on the network.
 */
import type { Bundle } from '../../identity/bundle.ts';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import type { X509Svid } from '../../identity/x509-svid.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Watched, type WatchedSource } from '../../runtime/watched.ts';
import { authorityStanding } from './authority-standing.ts';
import type { ToldCrls } from './crls.ts';
import { type AgentEntry, entryMatches, selectorKinds } from './entry.ts';
import { halfLife } from './half-life.ts';

/** An entry, and its SVID or why there is none: not issued yet, refused, or the server out of reach. */
export interface Identity {
  readonly entry: AgentEntry;
  readonly svid: X509Svid | undefined;
  readonly lack: 'pending' | 'refused' | 'unavailable' | undefined;
}

/** Everything at one instant; a new object after each change. */
export interface CacheState {
  readonly bundle: Bundle;
  /** Bundles of foreign trust domains that entries federate with, by name. */
  readonly federated: ReadonlyMap<TrustDomain, Bundle>;
  /** Revocation lists of the server's trust domain, DER. */
  readonly crls: readonly Uint8Array[];
  /** By entry id, so that a workload's default identity is always the same. */
  readonly identities: readonly Identity[];
  /** What the entries' selectors are about, e.g. `unix:path`: nothing else is asked of a workload. */
  readonly selectorKinds: ReadonlySet<string>;
  /** Whether the entries have come from the server since the start. */
  readonly synced: boolean;
}

interface Slot {
  entry: AgentEntry;
  svid: X509Svid | undefined;
  /** When the next SVID is to be asked for. */
  dueAt: Date;
  failure: 'refused' | 'unavailable' | undefined;
  failures: number;
}

const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 30_000;
/** By less the two clocks differ all the time. */
const SET_BACK_MS = 1000;

export class SvidCache {
  readonly #clock: Clock;
  readonly #state: Watched<CacheState>;
  readonly #slots = new Map<string, Slot>();
  readonly #asked = new Watched(0);
  readonly #wanted = new Set<string>();
  /** Of the wall clock, ahead of the monotonic one. */
  #offMs: number;

  constructor(options: { readonly clock: Clock; readonly bundle: Bundle }) {
    this.#clock = options.clock;
    this.#offMs = options.clock.now().getTime() - options.clock.monotonicMs();
    this.#state = new Watched<CacheState>({
      bundle: options.bundle,
      federated: new Map(),
      crls: [],
      identities: [],
      selectorKinds: new Set(),
      synced: false,
    });
  }

  get state(): WatchedSource<CacheState> {
    return this.#state;
  }

  /** Changes when a workload has asked for an SVID that is issued on demand. */
  get asked(): WatchedSource<number> {
    return this.#asked;
  }

  /** Takes over the complete list. An entry that changed keeps its SVID until the new one is here. */
  setEntries(entries: readonly AgentEntry[]): void {
    const now = this.#clock.now();
    const sorted = [...entries].sort((a, b) => (a.id < b.id ? -1 : 1));
    const before = new Map(this.#slots);
    let changed = !this.#state.value.synced || before.size !== sorted.length;
    this.#slots.clear();
    for (const entry of sorted) {
      const old = before.get(entry.id);
      const slot = old === undefined ? emptySlot(entry, now) : updated(old, entry, now);
      changed ||= slot !== old;
      this.#slots.set(entry.id, slot);
    }
    for (const id of this.#wanted) if (!this.#slots.has(id)) this.#wanted.delete(id);
    // Each publication has every open stream attest its caller again, so none without a change.
    if (changed) this.#publish({ selectorKinds: selectorKinds(sorted), synced: true });
  }

  /**
   * Takes over a new bundle. What chains to an authority that is tainted is issued anew; what chains
   * to one that is gone is no longer served.
   */
  setBundle(bundle: Bundle): void {
    const now = this.#clock.now();
    for (const slot of this.#slots.values()) {
      if (slot.svid === undefined) continue;
      const standing = authorityStanding(slot.svid.chain, bundle);
      if (standing === 'good') continue;
      if (standing === 'gone') slot.svid = undefined;
      slot.dueAt = now;
    }
    this.#publish({ bundle });
  }

  /** Takes over the bundles of all foreign trust domains that entries federate with. */
  setFederated(federated: ReadonlyMap<TrustDomain, Bundle>): void {
    this.#publish({ federated });
  }

  /**
   * Takes over all revocation lists. What they name is issued anew: a suspension may be over before its
   * entries were seen to be gone, and a node may have attested again.
   */
  setCrls({ crls, revoked }: ToldCrls): void {
    const now = this.#clock.now();
    for (const slot of this.#slots.values())
      if (slot.svid !== undefined && revoked.has(slot.svid.serial)) slot.dueAt = now;
    this.#publish({ crls });
  }

  /** Entries whose SVID is to be asked for now, those without one first. */
  due(maximum: number): AgentEntry[] {
    this.#heedSetBack();
    const now = this.#clock.now();
    const due = [...this.#slots.values()].filter(
      (slot) => this.#isWanted(slot) && slot.dueAt <= now,
    );
    due.sort((a, b) => Number(a.svid !== undefined) - Number(b.svid !== undefined));
    return due.slice(0, maximum).map(({ entry }) => entry);
  }

  /** When `due` or `dropExpired` next has something to do; undefined if never. */
  nextDueAt(): Date | undefined {
    this.#heedSetBack();
    const times = [...this.#slots.values()].flatMap((slot) => [
      ...(this.#isWanted(slot) ? [slot.dueAt.getTime()] : []),
      ...(slot.svid === undefined ? [] : [slot.svid.notAfter.getTime()]),
    ]);
    return times.length === 0 ? undefined : new Date(times.reduce((a, b) => Math.min(a, b)));
  }

  /** When the last of the SVIDs it holds ends; undefined if it holds none. */
  lastExpiry(): Date | undefined {
    const times = [...this.#slots.values()].flatMap(({ svid }) => svid?.notAfter.getTime() ?? []);
    return times.length === 0 ? undefined : new Date(times.reduce((a, b) => Math.max(a, b)));
  }

  /** Puts in what was issued; an entry that has changed meanwhile stays due. */
  storeAll(issued: readonly { readonly entry: AgentEntry; readonly svid: X509Svid }[]): void {
    const now = this.#clock.now();
    for (const { entry, svid } of issued) {
      const slot = this.#slots.get(entry.id);
      if (slot === undefined) continue;
      slot.svid = svid;
      slot.failure = undefined;
      slot.failures = 0;
      if (slot.entry === entry) slot.dueAt = halfLife(now, svid.notAfter);
    }
    this.#publish({});
  }

  /**
   * Notes that no SVID came for these entries. One that the server refused loses the SVID it has: it
   * is no longer entitled to it.
   */
  failAll(entries: readonly AgentEntry[], failure: 'refused' | 'unavailable'): void {
    const now = this.#clock.now().getTime();
    for (const entry of entries) {
      const slot = this.#slots.get(entry.id);
      if (slot === undefined || slot.entry !== entry) continue;
      if (failure === 'refused') slot.svid = undefined;
      slot.failure = failure;
      slot.dueAt = new Date(now + Math.min(FIRST_RETRY_MS * 2 ** slot.failures, LONGEST_RETRY_MS));
      slot.failures++;
    }
    this.#publish({});
  }

  /** Lets entries that failed be asked for at once, because the server has told of a change. */
  retryFailed(): void {
    const now = this.#clock.now();
    for (const slot of this.#slots.values()) if (slot.failure !== undefined) slot.dueAt = now;
  }

  /** Forgets SVIDs that have ended, which they do only if none could be had in their place. */
  dropExpired(): void {
    const now = this.#clock.now();
    let dropped = false;
    for (const slot of this.#slots.values()) {
      if (slot.svid === undefined || slot.svid.notAfter > now) continue;
      slot.svid = undefined;
      slot.failure ??= 'unavailable';
      dropped = true;
    }
    if (dropped) this.#publish({});
  }

  /** The identities of a workload; those issued on demand are asked for. */
  match(state: CacheState, held: ReadonlySet<string>): Identity[] {
    const matched = state.identities.filter(({ entry }) => entryMatches(entry, held));
    for (const { entry } of matched) if (entry.onDemand) this.#want(entry.id);
    return matched;
  }

  /** A clock that was set back puts nothing off. */
  #heedSetBack(): void {
    const offMs = this.#clock.now().getTime() - this.#clock.monotonicMs();
    const backMs = this.#offMs - offMs;
    this.#offMs = backMs < SET_BACK_MS ? Math.max(this.#offMs, offMs) : offMs;
    if (backMs < SET_BACK_MS) return;
    for (const slot of this.#slots.values()) slot.dueAt = new Date(slot.dueAt.getTime() - backMs);
  }

  #want(id: string): void {
    if (this.#wanted.has(id)) return;
    this.#wanted.add(id);
    this.#asked.set(this.#asked.value + 1);
  }

  #isWanted(slot: Slot): boolean {
    return !slot.entry.onDemand || this.#wanted.has(slot.entry.id);
  }

  #publish(change: Partial<CacheState>): void {
    const identities = [...this.#slots.values()].map(
      ({ entry, svid, failure }): Identity => ({
        entry,
        svid,
        lack: svid === undefined ? (failure ?? 'pending') : undefined,
      }),
    );
    this.#state.set({ ...this.#state.value, identities, ...change });
  }
}

function emptySlot(entry: AgentEntry, now: Date): Slot {
  return { entry, svid: undefined, dueAt: now, failure: undefined, failures: 0 };
}

function updated(slot: Slot, entry: AgentEntry, now: Date): Slot {
  const { revision, createdAt, spiffeId } = slot.entry;
  if (entry.revision === revision && entry.createdAt === createdAt) return slot;
  const sameId = String(entry.spiffeId) === String(spiffeId);
  return { ...emptySlot(entry, now), svid: sameId ? slot.svid : undefined };
}
