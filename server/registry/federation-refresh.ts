import type { Bundle } from '../../identity/bundle.ts';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Logger } from '../../runtime/log.ts';
import type { WatchedSource } from '../../runtime/watched.ts';
import { SERVER_ACTOR } from '../access/actor.ts';
import type { Datastore } from '../plugins/datastore/datastore.ts';
import { findFederatedBundle } from './federated-bundle-rows.ts';
import type { FederatedBundles } from './federated-bundles.ts';
import {
  type FederationRelationship,
  findRelationship,
  listRelationships,
} from './federation-relationships.ts';
import { fetchBundle } from './fetch-bundle.ts';

const LEAST_SECONDS = 60;
/** Source: SPIFFE Trust Domain and Bundle 6.1: where no hint is given, five minutes. */
const DEFAULT_SECONDS = 300;
const MOST_SECONDS = 24 * 60 * 60;
/** How often relationships that other servers on the store have made are looked for. */
const LOOK_MS = 10_000;

export interface FederationRefreshOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly log: Logger;
  readonly bundles: FederatedBundles;
  /** The server's own bundle. */
  readonly bundle: WatchedSource<Bundle>;
  /** PEM of the authorities that prove https_web endpoints; those of the Web PKI unless told. */
  readonly webAuthorities?: string | undefined;
}

/** When a trust domain's bundle is fetched again, if it still comes from the same place. */
interface Next {
  readonly place: string;
  readonly dueMs: number;
}

/**
 * Fetches each foreign bundle when its refresh hint says, until it is disposed. One that cannot be
 * fetched stays as it is until the next time.
 */
export class FederationRefresh implements AsyncDisposable {
  readonly #options: FederationRefreshOptions;
  readonly #next = new Map<string, Next>();
  readonly #stop = new AbortController();
  /** Whether there may be something new since relationships were last read. */
  #woken = false;
  #wake: (() => void) | undefined;
  readonly #running: Promise<void>;

  constructor(options: FederationRefreshOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#wake?.();
    await this.#running;
  }

  /** Looks for relationships that are new or gone. */
  wake(): void {
    this.#woken = true;
    this.#wake?.();
  }

  /**
   * Fetches one bundle at once.
   * @throws Fault NOT_FOUND without a relationship; UNAVAILABLE or INVALID_ARGUMENT as `fetchBundle`
   */
  async now(trustDomain: TrustDomain, signal: AbortSignal): Promise<void> {
    const relationship = await findRelationship(this.#options.store, trustDomain);
    if (relationship === undefined)
      throw new Fault('NOT_FOUND', `no relationship with trust domain "${trustDomain}"`);
    await this.#refresh(relationship, signal);
  }

  async #run(): Promise<void> {
    const { clock, log, store } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      this.#woken = false;
      try {
        const all = await listRelationships(store);
        const names = new Set<string>(all.map(({ trustDomain }) => trustDomain));
        for (const name of this.#next.keys()) if (!names.has(name)) this.#next.delete(name);
        const due = all.filter((one) => isDue(one, this.#next, clock.monotonicMs()));
        await Promise.all(due.map((one) => this.#attempt(one)));
      } catch (error) {
        if (!signal.aborted) log.error({ err: error }, 'federation relationships cannot be read');
      }
      await this.#pause();
    }
  }

  async #attempt(relationship: FederationRelationship): Promise<void> {
    const { log, clock } = this.#options;
    const { trustDomain } = relationship;
    let seconds = DEFAULT_SECONDS;
    try {
      seconds = await this.#refresh(relationship, this.#stop.signal);
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      log.warn({ trust_domain: trustDomain, err: error }, 'federated bundle not refreshed');
      const kept = await findFederatedBundle(this.#options.store, trustDomain).catch(
        () => undefined,
      );
      if (kept !== undefined) seconds = periodOf(kept);
    }
    const dueMs = clock.monotonicMs() + seconds * 1000;
    this.#next.set(trustDomain, { place: placeOf(relationship), dueMs });
  }

  /** @returns after how many seconds to look again */
  async #refresh(relationship: FederationRelationship, signal: AbortSignal): Promise<number> {
    const { store, clock, bundles, bundle: own, webAuthorities } = this.#options;
    const fetched = await fetchBundle(relationship, {
      ...{ clock, signal, webAuthorities },
      bundleOf: async (name) =>
        name === own.value.trustDomain ? own.value : findFederatedBundle(store, name),
    });
    await store.transaction(async (tx) => {
      const known = await findFederatedBundle(tx, relationship.trustDomain);
      if (known !== undefined && !isNews(known, fetched)) return;
      await bundles.put(tx, fetched, 'any', SERVER_ACTOR);
    });
    return periodOf(fetched);
  }

  async #pause(): Promise<void> {
    const { clock } = this.#options;
    if (this.#woken || this.#stop.signal.aborted) return;
    const stop = new AbortController();
    this.#wake = () => stop.abort();
    await clock.wait(LOOK_MS, stop.signal).catch(() => undefined);
    this.#wake = undefined;
  }
}

function placeOf({ url, endpointId }: FederationRelationship): string {
  return `${url} ${endpointId ?? ''}`;
}

function isDue(
  relationship: FederationRelationship,
  known: ReadonlyMap<string, Next>,
  nowMs: number,
): boolean {
  const next = known.get(relationship.trustDomain);
  return next === undefined || next.dueMs <= nowMs || next.place !== placeOf(relationship);
}

/**
 * An endpoint behind several servers may answer with an older bundle than it did before; one without a
 * number (0) is as new as it was fetched. Source: SPIFFE Federation 4.2.
 */
function isNews(known: Bundle, fetched: Bundle): boolean {
  if (fetched.sequenceNumber !== 0n && fetched.sequenceNumber < known.sequenceNumber) return false;
  const content = ({ x509Authorities, jwtAuthorities, ...rest }: Bundle) =>
    JSON.stringify([
      x509Authorities.map(({ der }) => Buffer.from(der).toString('base64')),
      jwtAuthorities.map(({ keyId, publicKey }) => [keyId, publicKey.export({ format: 'jwk' })]),
      String(rest.sequenceNumber),
      rest.refreshHintSeconds,
    ]);
  return content(known) !== content(fetched);
}

function periodOf({ refreshHintSeconds }: Bundle): number {
  const seconds = refreshHintSeconds === 0 ? DEFAULT_SECONDS : refreshHintSeconds;
  return Math.min(Math.max(seconds, LEAST_SECONDS), MOST_SECONDS);
}
