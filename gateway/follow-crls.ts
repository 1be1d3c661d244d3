import { type Crl, parseCrl } from '../identity/x509/crl.ts';
import { CrlView, type RevocationView } from '../identity/x509/crl-view.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Logger } from '../runtime/log.ts';
import type { WatchedSource } from '../runtime/watched.ts';

/** What the agent's revocation lists say, as long as it is not disposed. */
export class FollowedCrls implements AsyncDisposable {
  readonly #view: CrlView;
  readonly #log: Logger;
  readonly #stop = new AbortController();
  readonly #following: Promise<void>;

  constructor(options: {
    readonly crls: WatchedSource<readonly Uint8Array[]>;
    readonly clock: Clock;
    readonly log: Logger;
  }) {
    const { crls, clock, log } = options;
    this.#log = log;
    const onBad = ({ number }: Crl) =>
      log.warn({ number: String(number) }, 'revocation list ignored: not signed by its authority');
    this.#view = new CrlView({ clock, onBad });
    this.#offer(crls.value);
    this.#following = this.#follow(crls);
  }

  /**
   * What they say of a client. One that is held back passes: the server is asked about locks as each
   * session opens, and knows at once of one that is lifted.
   */
  readonly status: RevocationView = (serial, authority) => {
    const status = this.#view.status(serial, authority);
    return status === 'held' ? 'good' : status;
  };

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#following;
  }

  async #follow(crls: WatchedSource<readonly Uint8Array[]>): Promise<void> {
    for await (const ders of crls.values(this.#stop.signal)) this.#offer(ders);
  }

  #offer(ders: readonly Uint8Array[]): void {
    const lists: Crl[] = [];
    for (const der of ders) {
      try {
        lists.push(parseCrl(der));
      } catch (error) {
        this.#log.warn({ err: error }, 'revocation list ignored');
      }
    }
    this.#view.offer(lists);
  }
}
