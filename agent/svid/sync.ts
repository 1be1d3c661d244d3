/**
 * Keeps the cache like the server: entries and bundle after each change that the server tells of (or
 * every few seconds where it tells of none), then the X509-SVIDs that these ask for.
 */
import { toBinary } from '@bufbuild/protobuf';
import type { Bundle } from '../../identity/bundle.ts';
import { bundleFromMessage } from '../../identity/bundle-message.ts';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import { Bundle as BundleService } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { Entry as EntryService } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { BundleSchema } from '../../proto/gen/spire/api/types/bundle_pb.ts';
import { Backoff } from '../../runtime/backoff.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import { agentDenial } from '../attestation/agent-denial.ts';
import type { ServerLink } from '../server-link.ts';
import type { SvidCache } from './cache.ts';
import { ServerCrls } from './crls.ts';
import { FederatedBundles } from './federated-bundles.ts';
import type { Issuer } from './issue.ts';
import { EntrySync } from './sync-entries.ts';
import { watchServer } from './watch.ts';

const RETRY = { firstMs: 500, maximumMs: 5000 };
const SYNC_TIMEOUT_MS = 30_000;
const POLL_MS = 5000;
/** A net under the server's pushes, should one be lost. */
const POLL_WHILE_LIVE_MS = 60_000;

export interface SyncOptions {
  readonly trustDomain: TrustDomain;
  readonly cache: SvidCache;
  readonly issuer: Issuer;
  readonly link: ServerLink;
  readonly clock: Clock;
  readonly log: Logger;
  /** The bundle is another; resolves when all that depends on it follows. */
  onBundle(bundle: Bundle): Promise<void>;
  onSync(outcome: 'ok' | 'failed', entries: number): void;
}

export class ServerSync {
  readonly #options: SyncOptions;
  readonly #entries: EntrySync;
  readonly #federated: FederatedBundles;
  readonly #crls: ServerCrls;
  #bundleBytes: Uint8Array = new Uint8Array();
  #stale = true;
  #live = false;
  #syncedAtMs = Number.NEGATIVE_INFINITY;
  #wake: (() => void) | undefined;

  constructor(options: SyncOptions) {
    this.#options = options;
    this.#entries = new EntrySync(options.trustDomain);
    this.#federated = new FederatedBundles(options);
    this.#crls = new ServerCrls(options);
  }

  /**
   * Runs until `signal` aborts.
   * @throws `RpcError` of which `agentDenial` tells that the server will have no more of this agent
   */
  async run(signal: AbortSignal): Promise<void> {
    const backoff = new Backoff(RETRY);
    const { cache, issuer, log, onSync } = this.#options;
    while (!signal.aborted) {
      try {
        cache.dropExpired();
        const wasStale = this.#isStale();
        if (wasStale) await this.#sync(signal);
        await issuer.run(signal);
        // Last: the server may still be making them.
        if (wasStale) await this.#syncCrls(signal);
        backoff.reset();
      } catch (error) {
        if (signal.aborted || agentDenial(error) !== undefined) throw error;
        log.warn({ err: error }, 'not in step with the server');
        onSync('failed', cache.state.value.identities.length);
        this.#stale = true;
        await this.#pause(backoff.next(), signal);
        continue;
      }
      if (!this.#stale) await this.#pause(this.#idleMs(), signal);
    }
  }

  /** Listens for the server's pushes, until `signal` aborts. Throws as `run` does. */
  async watch(signal: AbortSignal): Promise<void> {
    const { link, clock, log, cache } = this.#options;
    const onLive = (live: boolean) => {
      this.#live = live;
      if (!live) this.wake();
    };
    const onChange = () => {
      this.#stale = true;
      cache.retryFailed();
      this.wake();
    };
    await watchServer({ link, clock, log, onLive, onChange }, signal);
  }

  /** Looks again for what is due. */
  wake(): void {
    this.#wake?.();
  }

  async #sync(signal: AbortSignal): Promise<void> {
    const { cache, link, onSync } = this.#options;
    // Cleared first: a push that comes during the sync asks for another.
    this.#stale = false;
    const options = { signal, timeoutMs: SYNC_TIMEOUT_MS };
    const entries = await link.call((channel) =>
      this.#entries.run((requests) =>
        channel.client(EntryService).syncAuthorizedEntries(requests, options),
      ),
    );
    // The bundle after the entries and before any SVID: what is issued next may be of a new authority.
    await this.#syncBundle(signal);
    const federated = await this.#federated.sync(entries, signal);
    if (federated !== undefined) cache.setFederated(federated);
    cache.setEntries(entries);
    this.#syncedAtMs = this.#options.clock.monotonicMs();
    onSync('ok', entries.length);
  }

  async #syncCrls(signal: AbortSignal): Promise<void> {
    const told = await this.#crls.sync(signal);
    if (told !== undefined) this.#options.cache.setCrls(told);
  }

  async #syncBundle(signal: AbortSignal): Promise<void> {
    const { link, cache, trustDomain, onBundle } = this.#options;
    const message = await link.call((channel) =>
      channel.client(BundleService).getBundle({}, { signal }),
    );
    const bytes = toBinary(BundleSchema, message);
    if (Buffer.compare(bytes, this.#bundleBytes) === 0) return;
    const bundle = bundleFromMessage(message, trustDomain);
    cache.setBundle(bundle);
    await onBundle(bundle);
    this.#bundleBytes = bytes;
  }

  #isStale(): boolean {
    return this.#stale || this.#options.clock.monotonicMs() >= this.#nextPollMs();
  }

  #nextPollMs(): number {
    return this.#syncedAtMs + (this.#live ? POLL_WHILE_LIVE_MS : POLL_MS);
  }

  /** Milliseconds until a poll, or an SVID that is due or ends. */
  #idleMs(): number {
    const { cache, clock } = this.#options;
    const untilPoll = this.#nextPollMs() - clock.monotonicMs();
    const due = cache.nextDueAt();
    return due === undefined
      ? untilPoll
      : Math.min(untilPoll, due.getTime() - clock.now().getTime());
  }

  /** Waits that long, or until `wake`. */
  async #pause(milliseconds: number, signal: AbortSignal): Promise<void> {
    if (milliseconds <= 0 || signal.aborted) return;
    const stop = new AbortController();
    const abort = () => stop.abort();
    this.#wake = abort;
    signal.addEventListener('abort', abort, { once: true });
    try {
      await this.#options.clock.wait(milliseconds, stop.signal);
    } catch (error) {
      if (!stop.signal.aborted) throw error;
    } finally {
      this.#wake = undefined;
      signal.removeEventListener('abort', abort);
    }
  }
}
