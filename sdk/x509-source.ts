import { type Bundle, bundleToX509Der } from '../identity/bundle.ts';
import type { SpiffeId } from '../identity/spiffe-id.ts';
import type { X509Svid } from '../identity/x509-svid.ts';
import { Backoff } from '../runtime/backoff.ts';
import { systemClock } from '../runtime/clock.ts';
import { RpcError } from '../runtime/grpc-client.ts';
import type { Logger } from '../runtime/log.ts';
import { Watched, type WatchedSource } from '../runtime/watched.ts';
import { WorkloadApiClient, type X509Context } from './workload-api-client.ts';

const RETRY = { firstMs: 100, maximumMs: 10_000 };
/** Statuses after which SPIFFE's Workload Endpoint (6) says not to try again. */
const FINAL: ReadonlySet<string> = new Set(['INVALID_ARGUMENT', 'UNIMPLEMENTED']);

export interface X509SourceOptions {
  /** `unix:///path`; that of `SPIFFE_ENDPOINT_SOCKET` if left out. */
  readonly endpoint?: string;
  /** Which identity, for a workload that has several; the default one if left out. */
  readonly spiffeId?: SpiffeId;
  /** Ends the wait for the first SVID; after that the source lives until it is disposed of. */
  readonly signal: AbortSignal;
  readonly log?: Logger;
}

/**
 * A workload's own X509-SVID and bundle, kept fresh: it follows the agent's rotations, connects again
 * when the agent was away, and keeps the last value meanwhile.
 */
export class X509Source implements AsyncDisposable {
  readonly svid: WatchedSource<X509Svid>;
  /** Of the SVID's trust domain. */
  readonly bundle: WatchedSource<Bundle>;
  /** Revocation lists, DER, as the agent told them: who relies on them verifies them. */
  readonly crls: WatchedSource<readonly Uint8Array[]>;
  readonly #stop: AbortController;
  readonly #ended: Promise<void>;

  private constructor(first: Identity, stop: AbortController, feed: Feed) {
    const svid = new Watched(first.svid);
    const bundle = new Watched(first.bundle);
    const crls = new Watched(first.crls);
    this.svid = svid;
    this.bundle = bundle;
    this.crls = crls;
    this.#stop = stop;
    this.#ended = follow(feed, { svid, bundle, crls });
  }

  /**
   * Waits for the first SVID, however long it takes the workload to be given one.
   * @throws Fault `INVALID_ARGUMENT` for an endpoint that is none; `RpcError` if the agent will never
   *   answer, or `signal` aborts
   */
  static async connect(options: X509SourceOptions): Promise<X509Source> {
    const client = new WorkloadApiClient(options.endpoint);
    const stop = new AbortController();
    const abort = () => stop.abort();
    options.signal.addEventListener('abort', abort, { once: true });
    if (options.signal.aborted) abort();
    try {
      const feed = identities(client, options, stop.signal);
      const first = await feed.next();
      if (first.done === true)
        throw new RpcError('CANCELLED', 'stopped before the first X509-SVID');
      return new X509Source(first.value, stop, feed);
    } catch (error) {
      stop.abort();
      throw error;
    } finally {
      options.signal.removeEventListener('abort', abort);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#ended;
  }
}

interface Identity {
  readonly svid: X509Svid;
  readonly bundle: Bundle;
  readonly crls: readonly Uint8Array[];
}

type Feed = AsyncGenerator<Identity, void>;

type Kept = { readonly [K in keyof Identity]: Watched<Identity[K]> };

async function follow(feed: Feed, { svid, bundle, crls }: Kept): Promise<void> {
  for await (const identity of feed) {
    if (!isSameBundle(identity.bundle, bundle.value)) bundle.set(identity.bundle);
    if (!isSameList(identity.crls, crls.value)) crls.set(identity.crls);
    if (!isSameSvid(identity.svid, svid.value)) svid.set(identity.svid);
  }
}

/** The agent tells all of a workload's identities again when one of them changes. */
function isSameSvid(one: X509Svid, other: X509Svid): boolean {
  return one.hint === other.hint && isSameList(one.chain, other.chain);
}

function isSameList(one: readonly Uint8Array[], other: readonly Uint8Array[]): boolean {
  return (
    one.length === other.length &&
    one.every((der, at) => Buffer.compare(der, other[at] ?? Buffer.of()) === 0)
  );
}

function isSameBundle(one: Bundle, other: Bundle): boolean {
  return Buffer.compare(bundleToX509Der(one), bundleToX509Der(other)) === 0;
}

/** Every state of the identity, over as many streams as it takes, until `signal` aborts. */
async function* identities(
  client: WorkloadApiClient,
  { spiffeId, log }: X509SourceOptions,
  signal: AbortSignal,
): Feed {
  await using _ = client;
  const backoff = new Backoff(RETRY);
  for (let given = false; !signal.aborted; ) {
    try {
      for await (const context of client.watchX509(signal)) {
        backoff.reset();
        const identity = pick(context, spiffeId);
        if (identity === undefined) {
          log?.warn(
            { spiffe_id: String(spiffeId) },
            'the agent has no such identity for this workload',
          );
          continue;
        }
        given = true;
        yield identity;
      }
    } catch (error) {
      if (signal.aborted) return;
      // Once there is an SVID to go on with, an agent that is being replaced may say anything.
      if (!given && error instanceof RpcError && FINAL.has(error.status)) throw error;
      log?.warn({ err: error }, 'no X509-SVID from the agent');
    }
    await systemClock.wait(backoff.next(), signal).catch(() => undefined);
  }
}

function pick(
  { svids, bundles, crls }: X509Context,
  wanted: SpiffeId | undefined,
): Identity | undefined {
  const svid =
    wanted === undefined ? svids[0] : svids.find(({ id }) => String(id) === String(wanted));
  const bundle = svid === undefined ? undefined : bundles.get(svid.id.trustDomain);
  return svid === undefined || bundle === undefined ? undefined : { svid, bundle, crls };
}
