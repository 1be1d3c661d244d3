/**
 * JWT-SVIDs that were minted for workloads, by entry and audiences, until half their life is over.
 * One that can no longer be renewed is handed out until it ends.
 */
import type { Clock } from '../../runtime/clock.ts';
import { type Deadline, deadlineAt, msUntil } from '../../runtime/deadline.ts';
import { Fault } from '../../runtime/fault.ts';
import type { AgentEntry } from './entry.ts';
import { halfLife } from './half-life.ts';

const MAXIMUM_HELD = 1000;
const MAXIMUM_RUNNING = 256;
/** One that ends sooner would be refused on arrival. */
const LEAST_LEFT_MS = 2000;

export interface MintedJwt {
  readonly token: string;
  readonly expiresAt: Date;
}

/** Has the server mint one. @throws Fault: `PERMISSION_DENIED` if the agent is not entitled to it */
export type MintJwt = (entry: AgentEntry, audience: readonly string[]) => Promise<MintedJwt>;

interface Held extends MintedJwt {
  readonly renewAt: Deadline;
}

export class JwtCache {
  readonly #mint: MintJwt;
  readonly #clock: Clock;
  #held = new Map<string, Held>();
  #minting = new Map<string, Promise<Held>>();
  #running = 0;

  constructor(options: { readonly mint: MintJwt; readonly clock: Clock }) {
    this.#mint = options.mint;
    this.#clock = options.clock;
  }

  /** @param audience at least one; neither their order nor repetition matters */
  async get(entry: AgentEntry, audience: readonly string[]): Promise<string> {
    const wanted = [...new Set(audience)].sort();
    if (entry.freshJwt) return (await this.#mintOne(entry, wanted)).token;
    const key = JSON.stringify([entry.id, `${entry.revision} ${entry.createdAt}`, ...wanted]);
    const held = this.#current(key);
    if (held !== undefined && msUntil(held.renewAt, this.#clock) > 0) return held.token;
    try {
      return (await this.#renew(key, entry, wanted)).token;
    } catch (error) {
      if (held === undefined) throw error;
      if (error instanceof Fault && error.code === 'PERMISSION_DENIED') {
        this.#held.delete(key);
        throw error;
      }
      return held.token;
    }
  }

  /** Forgets them all, because the keys that verify them have changed. */
  clear(): void {
    this.#held = new Map();
    this.#minting = new Map();
  }

  #current(key: string): Held | undefined {
    const held = this.#held.get(key);
    if (held === undefined) return undefined;
    if (held.expiresAt.getTime() - this.#clock.now().getTime() > LEAST_LEFT_MS) return held;
    this.#held.delete(key);
    return undefined;
  }

  /** Callers that want the same token at once share one call. */
  #renew(key: string, entry: AgentEntry, audience: readonly string[]): Promise<Held> {
    const minting = this.#minting;
    const running = minting.get(key);
    if (running !== undefined) return running;
    const started = this.#mintAndHold(key, entry, audience).finally(() => minting.delete(key));
    minting.set(key, started);
    return started;
  }

  async #mintAndHold(key: string, entry: AgentEntry, audience: readonly string[]): Promise<Held> {
    // What `clear` let go of while the token was on its way must not come back.
    const into = this.#held;
    const minted = await this.#mintOne(entry, audience);
    const half = halfLife(this.#clock.now(), minted.expiresAt);
    const held = { ...minted, renewAt: deadlineAt(half, this.#clock) };
    into.delete(key);
    const [oldest] = into.keys();
    if (into.size >= MAXIMUM_HELD && oldest !== undefined) into.delete(oldest);
    into.set(key, held);
    return held;
  }

  async #mintOne(entry: AgentEntry, audience: readonly string[]): Promise<MintedJwt> {
    if (this.#running >= MAXIMUM_RUNNING) {
      throw new Fault('UNAVAILABLE', 'too many JWT-SVIDs are being minted');
    }
    this.#running++;
    try {
      return await this.#mint(entry, audience);
    } finally {
      this.#running--;
    }
  }
}
