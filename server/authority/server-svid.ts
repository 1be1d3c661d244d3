import { SpiffeId } from '../../identity/spiffe-id.ts';
import { generateKey, spkiOf } from '../../identity/x509/key.ts';
import { type X509Svid, x509Svid } from '../../identity/x509-svid.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import { Watched, type WatchedSource } from '../../runtime/watched.ts';
import { SERVER_ACTOR } from '../access/actor.ts';
import type { Datastore } from '../plugins/datastore/datastore.ts';
import type { Authority } from './authority.ts';

const RETRY_MS = 5000;

export interface ServerSvidOptions {
  readonly store: Datastore;
  readonly authority: Authority;
  readonly clock: Clock;
  readonly log: Logger;
  readonly ttlSeconds: number;
}

/** The server's own SVID, renewed at half its life until it is disposed. */
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

  static async open(options: ServerSvidOptions): Promise<ServerSvid> {
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
        await clock.waitUntil(halfLife(this.#current.value), signal);
        this.#current.set(await issue(this.#options));
      } catch (error) {
        if (signal.aborted) return;
        log.error({ err: error }, 'server SVID could not be renewed');
        await clock.wait(RETRY_MS, signal).catch(() => undefined);
      }
    }
  }
}

async function issue(options: ServerSvidOptions): Promise<X509Svid> {
  const { store, authority, clock, ttlSeconds } = options;
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
  return x509Svid(signed.chain, key);
}

function halfLife({ notBefore, notAfter }: X509Svid): Date {
  return new Date((notBefore.getTime() + notAfter.getTime()) / 2);
}
