import { Watched, type WatchedSource } from '../../runtime/watched.ts';
import type { Concerned, IndexedAgent } from './entry-index.ts';
import { selectorText } from './selectors.ts';

/** One agent's wait for changes that concern it. */
export interface AgentWake extends Disposable {
  /** Grows with each. */
  readonly count: WatchedSource<bigint>;
}

interface Waiting {
  readonly count: Watched<bigint>;
  readonly own: ReadonlySet<string>;
}

/** Comparisons of an alias with an agent, beyond which it is cheaper to wake everybody. */
const MAXIMUM_EFFORT = 50_000;

/**
 * Who of the agents that wait is told of a change: a thousand of them, each of which then asks for its
 * entries, must not be woken by what concerns one.
 */
export class AgentWakes {
  readonly #byAgent = new Map<string, Set<Waiting>>();
  #size = 0;

  /** How many wait. */
  get size(): number {
    return this.#size;
  }

  open(agent: IndexedAgent): AgentWake {
    const waiting: Waiting = {
      count: new Watched(0n),
      own: new Set([...agent.selectors.map(selectorText), `spiffe_id:${agent.id}`]),
    };
    const known = this.#byAgent.get(agent.id);
    if (known === undefined) this.#byAgent.set(agent.id, new Set([waiting]));
    else known.add(waiting);
    this.#size += 1;
    return { count: waiting.count, [Symbol.dispose]: () => this.#close(agent.id, waiting) };
  }

  wakeAll(): void {
    for (const all of this.#byAgent.values()) all.forEach(ring);
  }

  wake(concerned: readonly Concerned[]): void {
    const effort = concerned.reduce((sum, { aliases }) => sum + aliases.length, 0) * this.#size;
    if (effort > MAXIMUM_EFFORT) {
      this.wakeAll();
      return;
    }
    const found = new Set<Waiting>();
    for (const { ids, aliases } of concerned) {
      for (const id of ids) for (const waiting of this.#byAgent.get(id) ?? []) found.add(waiting);
      for (const alias of aliases) this.#gatherAlias(alias, found);
    }
    found.forEach(ring);
  }

  #gatherAlias(alias: readonly string[], into: Set<Waiting>): void {
    for (const all of this.#byAgent.values())
      for (const waiting of all) if (alias.every((one) => waiting.own.has(one))) into.add(waiting);
  }

  #close(id: string, waiting: Waiting): void {
    const all = this.#byAgent.get(id);
    if (all?.delete(waiting) !== true) return;
    this.#size -= 1;
    if (all.size === 0) this.#byAgent.delete(id);
  }
}

function ring({ count }: Waiting): void {
  count.set(count.value + 1n);
}
