/**
 * Keeps the revocation lists: made anew shortly after a revocation or a change of the authorities, and
 * when half of their time has passed.
 */
import { Backoff } from '../../runtime/backoff.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import { Watched, type WatchedSource } from '../../runtime/watched.ts';
import type { Revocations } from '../access/revocations.ts';
import type { Datastore } from '../plugins/datastore/datastore.ts';
import type { Authorities } from './authorities.ts';
import type { Authority } from './authority.ts';
import {
  CRL_VALIDITY_MS,
  keyOfGround,
  readCrlGround,
  type SignedCrl,
  writeCrls,
} from './crl-writer.ts';
import { waitForEither } from './wait-for-either.ts';

/** Revocations that come together make one list. */
const DEBOUNCE_MS = 100;
/** How often what other servers on the store have revoked is looked for. */
const LOOK_MS = 10_000;
const RETRY = { firstMs: 500, maximumMs: 30_000 };
const LONGEST_WAIT_MS = 2000;

export interface CrlsOptions {
  readonly store: Datastore;
  readonly authority: Pick<Authority, 'caSigners'>;
  readonly authorities: Authorities;
  readonly revocations: Revocations;
  readonly clock: Clock;
  readonly log: Logger;
}

interface State {
  readonly lists: readonly SignedCrl[];
  /** The newest revocation that they tell of. */
  readonly seq: bigint;
  readonly key: string;
}

/** Runs until it is disposed. */
export class Crls implements AsyncDisposable {
  readonly #options: CrlsOptions;
  readonly #state: Watched<State>;
  readonly #changes = new Watched(0);
  readonly #stop = new AbortController();
  readonly #running: Promise<unknown>;

  private constructor(options: CrlsOptions, first: State) {
    this.#options = options;
    this.#state = new Watched(first);
    this.#running = Promise.all([
      this.#run(),
      this.#follow(options.revocations.head),
      this.#follow(options.authorities.state),
    ]);
  }

  /** Signs the first lists. @throws Fault STORE_UNAVAILABLE */
  static async open(options: CrlsOptions): Promise<Crls> {
    return new Crls(options, await made(options, undefined));
  }

  /** The newest lists, by authority; the active one's first. */
  get lists(): readonly SignedCrl[] {
    return this.#state.value.lists;
  }

  /**
   * Lists that tell of all revocations up to this call; the newest that there are if they cannot be made
   * within two seconds.
   */
  async upToDate(signal: AbortSignal): Promise<readonly SignedCrl[]> {
    const wanted = this.#options.revocations.head.value;
    if (this.#state.value.seq >= wanted) return this.lists;
    const end = new AbortController();
    const signals = AbortSignal.any([signal, end.signal, this.#stop.signal]);
    const late = this.#options.clock.wait(LONGEST_WAIT_MS, signals).then(
      () => end.abort(),
      () => undefined,
    );
    for await (const { seq } of this.#state.values(signals)) if (seq >= wanted) break;
    end.abort();
    await late;
    return this.lists;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, log } = this.#options;
    const { signal } = this.#stop;
    const backoff = new Backoff(RETRY);
    let seen = -1;
    while (!signal.aborted) {
      try {
        if (seen === this.#changes.value) await this.#wait(seen, signal);
        if (seen !== this.#changes.value) await clock.wait(DEBOUNCE_MS, signal);
        seen = this.#changes.value;
        this.#state.set(await made(this.#options, this.#state.value));
        backoff.reset();
      } catch (error) {
        if (signal.aborted) return;
        seen = -1;
        log.error({ err: error }, 'the certificate revocation lists could not be made');
        await clock.wait(backoff.next(), signal).catch(() => undefined);
      }
    }
  }

  async #wait(seen: number, signal: AbortSignal): Promise<void> {
    const at = new Date(this.#options.clock.now().getTime() + LOOK_MS);
    await waitForEither(this.#options.clock, at, { source: this.#changes, seen }, signal);
  }

  async #follow(source: WatchedSource<unknown>): Promise<void> {
    for await (const _ of source.values(this.#stop.signal))
      this.#changes.set(this.#changes.value + 1);
  }
}

/** The lists as they are to be now, which may be those that there are. */
async function made(options: CrlsOptions, before: State | undefined): Promise<State> {
  const { store, authority, revocations, clock, log } = options;
  // First: what is revoked after it is read of again.
  const seq = revocations.head.value;
  const now = clock.now();
  const ground = await readCrlGround(store, authority, now);
  const key = keyOfGround(ground);
  const isKept = before !== undefined && before.key === key && !isDue(before.lists, now);
  if (isKept) return { lists: before.lists, seq, key };
  if (!ground.isComplete)
    log.error('more is revoked than the certificate revocation lists hold: some of it is left out');
  return { lists: await writeCrls(store, ground, now), seq, key };
}

function isDue(lists: readonly SignedCrl[], now: Date): boolean {
  return lists.some(
    ({ thisUpdate }) => now.getTime() >= thisUpdate.getTime() + CRL_VALIDITY_MS / 2,
  );
}
