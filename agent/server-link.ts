/**
 * The agent's connection to its server, made anew when the agent's SVID or the bundle changes.
 *
 * The server takes an old SVID until the new one is first used; after that, a call with the old one
 * looks like a copy of this agent. So the connection is replaced only between calls.
 */
import type { Bundle } from '../identity/bundle.ts';
import { SpiffeId } from '../identity/spiffe-id.ts';
import { svidClientTls } from '../identity/tls.ts';
import type { X509Svid } from '../identity/x509-svid.ts';
import type { Clock } from '../runtime/clock.ts';
import { RpcChannel } from '../runtime/grpc-client.ts';

/** The server's own identity in each trust domain. */
export function isServer(bundle: Bundle): (id: SpiffeId) => boolean {
  const server = String(SpiffeId.fromSegments(bundle.trustDomain, 'spire', 'server'));
  return (id) => String(id) === server;
}

/** What a connection is made with. */
interface Identity {
  readonly svid: X509Svid;
  readonly bundle: Bundle;
}

export interface ServerLinkOptions {
  /** `host:port` */
  readonly address: string;
  readonly clock: Clock;
  readonly svid: X509Svid;
  readonly bundle: Bundle;
}

export class ServerLink implements AsyncDisposable {
  readonly #address: string;
  readonly #clock: Clock;
  #channel: RpcChannel;
  #epoch = new AbortController();
  #running = 0;
  #drained: (() => void) | undefined;
  #replacing: Promise<void> | undefined;

  constructor(options: ServerLinkOptions) {
    this.#address = options.address;
    this.#clock = options.clock;
    this.#channel = this.#open(options.svid, options.bundle);
  }

  /** Runs `work` on the connection; it waits while that is being replaced. `work` must end by itself. */
  async call<T>(work: (channel: RpcChannel) => Promise<T>): Promise<T> {
    while (this.#replacing !== undefined) await this.#replacing;
    this.#running++;
    try {
      return await work(this.#channel);
    } finally {
      this.#running--;
      if (this.#running === 0) this.#drained?.();
    }
  }

  /** Lends the connection for a stream, which must end when the signal beside it aborts. */
  async stream(): Promise<{ readonly channel: RpcChannel; readonly replaced: AbortSignal }> {
    while (this.#replacing !== undefined) await this.#replacing;
    return { channel: this.#channel, replaced: this.#epoch.signal };
  }

  /** Lets running calls end, then connects with this SVID and this bundle. */
  replace(svid: X509Svid, bundle: Bundle): Promise<void> {
    return this.replaceBy(async () => ({ svid, bundle }));
  }

  /**
   * Lets running calls end, then makes an SVID while there are none, and connects with that. Where that
   * cannot be made, the connection stays as it was.
   */
  async replaceBy(make: () => Promise<Identity>): Promise<void> {
    while (this.#replacing !== undefined) await this.#replacing;
    const swapped = this.#swap(make);
    // Who waits for the connection has it either way.
    this.#replacing = swapped.catch(() => undefined);
    await swapped;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#epoch.abort();
    await this.#channel[Symbol.asyncDispose]();
  }

  async #swap(make: () => Promise<Identity>): Promise<void> {
    try {
      this.#epoch.abort();
      if (this.#running > 0) {
        await new Promise<void>((resolve) => {
          this.#drained = resolve;
        });
      }
      const { svid, bundle } = await make();
      const next = this.#open(svid, bundle);
      await this.#channel[Symbol.asyncDispose]();
      this.#channel = next;
    } finally {
      this.#epoch = new AbortController();
      this.#drained = undefined;
      this.#replacing = undefined;
    }
  }

  #open(svid: X509Svid, bundle: Bundle): RpcChannel {
    const authorize = isServer(bundle);
    return RpcChannel.tls(
      this.#address,
      svidClientTls({ svid, bundle, authorize, clock: this.#clock }),
    );
  }
}
