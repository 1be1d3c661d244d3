import type { Clock } from '../../runtime/clock.ts';
import type { Identity } from '../svid/cache.ts';
import type { SshServer } from './server-calls.ts';

/** A client waits meanwhile, for nothing but an order. */
const TIMEOUT_MS = 1000;
/** Of an answer, or of a failure. */
const HELD_MS = 1000;

interface Answer {
  /** SPIFFE IDs; never rejects. */
  readonly useful: Promise<ReadonlySet<string>>;
  /** Of the monotonic clock; undefined while it is on its way. */
  untilMs: number | undefined;
}

/** Which identities open something by SSH, as the server said within the last second. */
export class UsefulIdentities {
  readonly #server: Pick<SshServer, 'targets'>;
  readonly #clock: Clock;
  /** By the entries that were asked for. */
  readonly #answers = new Map<string, Answer>();

  constructor(options: { readonly server: Pick<SshServer, 'targets'>; readonly clock: Clock }) {
    this.#server = options.server;
    this.#clock = options.clock;
  }

  /**
   * Those first that may log in somewhere: a client tries a few keys, in their order. As they are where
   * the server cannot tell.
   */
  async first(identities: readonly Identity[]): Promise<readonly Identity[]> {
    if (identities.length < 2) return identities;
    const useful = await this.#usefulOf(identities);
    const isUseful = ({ entry }: Identity) => useful.has(String(entry.spiffeId));
    return [...identities.filter(isUseful), ...identities.filter((one) => !isUseful(one))];
  }

  #usefulOf(identities: readonly Identity[]): Promise<ReadonlySet<string>> {
    this.#dropOld();
    const key = identities.map(({ entry }) => entry.id).join(' ');
    const held = this.#answers.get(key);
    if (held !== undefined) return held.useful;
    const answer: Answer = { useful: this.#ask(identities), untilMs: undefined };
    this.#answers.set(key, answer);
    void answer.useful.then(() => {
      answer.untilMs = this.#clock.monotonicMs() + HELD_MS;
    });
    return answer.useful;
  }

  async #ask(identities: readonly Identity[]): Promise<ReadonlySet<string>> {
    try {
      const entries = identities.map(({ entry }) => entry);
      const { targets } = await this.#server.targets(entries, TIMEOUT_MS);
      return new Set(targets.flatMap(({ spiffeIds }) => spiffeIds));
    } catch {
      return new Set();
    }
  }

  #dropOld(): void {
    const now = this.#clock.monotonicMs();
    for (const [key, { untilMs }] of this.#answers) {
      if (untilMs !== undefined && untilMs <= now) this.#answers.delete(key);
    }
  }
}
