import { SpiffeId } from '../../identity/spiffe-id.ts';
import { generateKey, spkiOf } from '../../identity/x509/key.ts';
import { type X509Svid, x509Svid } from '../../identity/x509-svid.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import { Watched, type WatchedSource } from '../../runtime/watched.ts';
import { SERVER_ACTOR } from '../access/actor.ts';
import type { Datastore } from '../plugins/datastore/datastore.ts';
import type { Authorities } from './authorities.ts';
import type { Authority } from './authority.ts';
import { activeOf } from './authority-state.ts';
import type { KeptSvid } from './kept-svid.ts';
import { type SvidPlan, svidPlan } from './server-svid-plan.ts';
import { waitForEither } from './wait-for-either.ts';

const RETRY_MS = 5000;

export interface ServerSvidOptions {
  readonly store: Datastore;
  readonly authorities: Authorities;
  readonly authority: Authority;
  readonly clock: Clock;
  readonly log: Logger;
  readonly ttlSeconds: number;
  /** Where it outlives a restart; nowhere unless told. */
  readonly kept?: KeptSvid | undefined;
}

/**
 * The server's own SVID, renewed until it is disposed: at half its life, when another authority signs and
 * all have had the time to learn of that, and when its own authority is tainted.
 */
export class ServerSvid implements AsyncDisposable {
  readonly #options: ServerSvidOptions;
  readonly #current: Watched<X509Svid>;
  readonly #stop = new AbortController();
  readonly #rotating: Promise<void>;

  private constructor(options: ServerSvidOptions, first: X509Svid) {
    this.#options = options;
    this.#current = new Watched(first);
    this.#rotating = this.#rotate();
  }

  /**
   * The SVID of the last run is shown on where the authority that signs now has not been known before,
   * as after the loss of a key: by it alone agents find their way to the new one.
   */
  static async open(options: ServerSvidOptions): Promise<ServerSvid> {
    const { kept, authority, clock } = options;
    const last = await kept?.load(authority.bundle.value, clock.now());
    if (last !== undefined) {
      const { isOfActive, renewAt } = planOf(last, options);
      if (!isOfActive && renewAt > clock.now()) return new ServerSvid(options, last);
    }
    return new ServerSvid(options, await issue(options));
  }

  get current(): WatchedSource<X509Svid> {
    return this.#current;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#rotating;
  }

  async #rotate(): Promise<void> {
    const { clock, log } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        await this.#untilDue(signal);
        this.#current.set(await issue(this.#options));
      } catch (error) {
        if (signal.aborted) return;
        log.error({ err: error }, 'server SVID could not be renewed');
        await clock.wait(RETRY_MS, signal).catch(() => undefined);
      }
    }
  }

  async #untilDue(signal: AbortSignal): Promise<void> {
    const { authorities, clock } = this.#options;
    const source = authorities.state;
    for (;;) {
      const seen = source.value;
      const { renewAt } = planOf(this.#current.value, this.#options);
      if (renewAt <= clock.now()) return;
      await waitForEither(clock, renewAt, { source, seen }, signal);
    }
  }
}

function planOf(svid: X509Svid, { authorities }: ServerSvidOptions): SvidPlan {
  const state = authorities.state.value;
  const active = activeOf(state, 'x509');
  if (active === undefined) return { isOfActive: false, renewAt: svid.notAfter };
  return svidPlan(svid, active.row, state.bundle);
}

async function issue(options: ServerSvidOptions): Promise<X509Svid> {
  const { store, authority, clock, ttlSeconds, kept } = options;
  const key = await generateKey('ec-p256');
  const { trustDomain } = authority.bundle.value;
  const signed = await store.transaction((tx) =>
    authority.signX509(tx, {
      kind: 'server',
      id: SpiffeId.fromSegments(trustDomain, 'spire', 'server'),
      spki: spkiOf(key),
      notAfter: new Date(clock.now().getTime() + ttlSeconds * 1000),
      actor: SERVER_ACTOR,
    }),
  );
  const svid = x509Svid(signed.chain, key);
  await kept?.save(svid);
  return svid;
}
