import type { Bundle } from '../../identity/bundle.ts';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { svidClientTls } from '../../identity/tls.ts';
import type { X509Svid } from '../../identity/x509-svid.ts';
import { GatewayService } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { RpcChannel } from '../../runtime/grpc-client.ts';
import type { WatchedSource } from '../../runtime/watched.ts';
import type { GatewayApi } from './gateway-api.ts';

/** With the stream's own pause less than a second: sessions are to end that soon after a restart too. */
const MAXIMUM_RECONNECT_MS = 250;

export interface ServerLinkOptions {
  /** `host:port` */
  readonly address: string;
  readonly svid: WatchedSource<X509Svid>;
  readonly bundle: WatchedSource<Bundle>;
  readonly clock: Clock;
}

/** No call of the gateway's takes longer. */
const LAST_CALLS_MS = 15_000;

/**
 * The gateway's channel to its server, made anew when its SVID or the bundle changes. Calls that are
 * running end on the old channel, which is closed a while later; sessions do not notice.
 */
export class ServerLink implements AsyncDisposable {
  readonly #options: ServerLinkOptions;
  readonly #closing = new AbortController();
  readonly #retired = new Set<Promise<void>>();
  #current: Channel;

  constructor(options: ServerLinkOptions) {
    this.#options = options;
    this.#current = this.#open();
  }

  /** On the newest channel. */
  get api(): GatewayApi {
    return this.#current.api;
  }

  /** Follows the SVID and the bundle until `signal` aborts; `replaced` runs after each new channel. */
  async follow(signal: AbortSignal, replaced: () => void): Promise<void> {
    const { svid, bundle } = this.#options;
    const look = async (source: WatchedSource<unknown>) => {
      for await (const _ of source.values(signal)) {
        if (this.#replace()) replaced();
      }
    };
    await Promise.all([look(svid), look(bundle)]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#retired);
    await this.#current.channel[Symbol.asyncDispose]();
  }

  #replace(): boolean {
    const { svid, bundle } = this.#options;
    const old = this.#current;
    if (old.svid === svid.value && old.bundle === bundle.value) return false;
    this.#current = this.#open();
    const retired = this.#retire(old).finally(() => this.#retired.delete(retired));
    this.#retired.add(retired);
    return true;
  }

  async #retire({ channel }: Channel): Promise<void> {
    const { clock } = this.#options;
    await clock.wait(LAST_CALLS_MS, this.#closing.signal).catch(() => undefined);
    await channel[Symbol.asyncDispose]();
  }

  #open(): Channel {
    const { address, clock } = this.#options;
    const [svid, bundle] = [this.#options.svid.value, this.#options.bundle.value];
    const server = String(SpiffeId.fromSegments(bundle.trustDomain, 'spire', 'server'));
    const authorize = (id: SpiffeId) => String(id) === server;
    const tls = svidClientTls({ svid, bundle, authorize, clock });
    const channel = RpcChannel.tls(address, tls, MAXIMUM_RECONNECT_MS);
    return { channel, api: channel.client(GatewayService), svid, bundle };
  }
}

interface Channel {
  readonly channel: RpcChannel;
  readonly api: GatewayApi;
  readonly svid: X509Svid;
  readonly bundle: Bundle;
}
