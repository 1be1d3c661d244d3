import { authorizeId } from '../../../identity/authorizer.ts';
import type { JwtAuthority } from '../../../identity/bundle.ts';
import { SpiffeId, type TrustDomain } from '../../../identity/spiffe-id.ts';
import { svidClientTls } from '../../../identity/tls.ts';
import { Bundle as BundleRpc } from '../../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { SVID } from '../../../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import type { Clock } from '../../../runtime/clock.ts';
import { Fault } from '../../../runtime/fault.ts';
import { RpcChannel, RpcError } from '../../../runtime/grpc-client.ts';
import type { Logger } from '../../../runtime/log.ts';
import { X509Source } from '../../../sdk/x509-source.ts';
import { jwtKeyMessage, usableJwtFromMessages } from '../../registry/bundle-message.ts';
import type { MintedAuthority, UpstreamAuthority, UpstreamBundle } from './upstream-authority.ts';

export interface SpireUpstreamOptions {
  readonly trustDomain: TrustDomain;
  /** `host:port` of the server above. */
  readonly server: string;
  /** Path of the Workload API that gives the SVID of a `downstream` entry. */
  readonly workloadApiSocket: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** How long to wait for the first SVID; 30 s unless told. */
  readonly svidTimeoutMs?: number;
}

const SVID_TIMEOUT_MS = 30_000;
const POLL_MS = 5000;
const OUT_OF_REACH: ReadonlySet<string> = new Set([
  'UNAVAILABLE',
  'DEADLINE_EXCEEDED',
  'CANCELLED',
  'RESOURCE_EXHAUSTED',
]);

/**
 * A SPIRE or Writ server of the same trust domain above this one. Each act has a connection of its own,
 * which shows the SVID of that moment.
 */
export class SpireUpstream implements UpstreamAuthority, AsyncDisposable {
  readonly type = 'spire';
  readonly #options: SpireUpstreamOptions;
  readonly #stop = new AbortController();
  #source: Promise<X509Source> | undefined;

  constructor(options: SpireUpstreamOptions) {
    this.#options = options;
  }

  async mint(
    csr: Uint8Array,
    preferredTtlSeconds: number,
    signal: AbortSignal,
  ): Promise<MintedAuthority> {
    const request = { csr, preferredTtl: Math.floor(preferredTtlSeconds) };
    const { caCertChain, x509Authorities } = await this.#call((channel) =>
      channel.client(SVID).newDownstreamX509CA(request, { signal }),
    );
    return { chain: caCertChain, roots: x509Authorities };
  }

  async *watchBundle(signal: AbortSignal): AsyncIterable<UpstreamBundle> {
    for (;;) {
      const { x509Authorities, jwtAuthorities } = await this.#call((channel) =>
        channel.client(BundleRpc).getBundle({}, { signal }),
      );
      const x509 = x509Authorities.map(({ asn1: der, tainted }) => ({ der, tainted }));
      yield { x509, jwt: usableJwtFromMessages(jwtAuthorities) };
      await this.#options.clock.wait(POLL_MS, signal);
    }
  }

  async publishJwtKey(key: JwtAuthority, signal: AbortSignal): Promise<readonly JwtAuthority[]> {
    const { jwtAuthorities } = await this.#call((channel) =>
      channel
        .client(BundleRpc)
        .publishJWTAuthority({ jwtAuthority: jwtKeyMessage(key) }, { signal }),
    );
    return usableJwtFromMessages(jwtAuthorities);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    const source = await this.#source?.catch(() => undefined);
    await source?.[Symbol.asyncDispose]();
  }

  /** @throws Fault UNAVAILABLE, FAILED_PRECONDITION */
  async #call<T>(act: (channel: RpcChannel) => Promise<T>): Promise<T> {
    const { server, trustDomain, clock } = this.#options;
    const { svid, bundle } = await this.#connected();
    if (svid.value.id.trustDomain !== trustDomain)
      throw new Fault(
        'FAILED_PRECONDITION',
        `upstream_authority.spire: the SVID is ${svid.value.id}, not one of ${trustDomain}`,
      );
    const authorize = authorizeId(SpiffeId.fromSegments(trustDomain, 'spire', 'server'));
    const tls = svidClientTls({ svid: svid.value, bundle: bundle.value, authorize, clock });
    await using channel = RpcChannel.tls(server, tls);
    try {
      return await act(channel);
    } catch (cause) {
      if (!(cause instanceof RpcError)) throw cause;
      const code = OUT_OF_REACH.has(cause.status) ? 'UNAVAILABLE' : 'FAILED_PRECONDITION';
      const says = `upstream_authority.spire: the server above answers ${cause.status}`;
      throw new Fault(code, says, { cause });
    }
  }

  /** The SVID's source, which is opened once; a wait that failed is begun again by the next act. */
  #connected(): Promise<X509Source> {
    this.#source ??= this.#connect().catch((error: unknown) => {
      this.#source = undefined;
      throw error;
    });
    return this.#source;
  }

  async #connect(): Promise<X509Source> {
    const { workloadApiSocket, clock, log, svidTimeoutMs = SVID_TIMEOUT_MS } = this.#options;
    const late = new AbortController();
    const abort = () => late.abort();
    this.#stop.signal.addEventListener('abort', abort, { once: true });
    if (this.#stop.signal.aborted) abort();
    const timer = new AbortController();
    void clock.wait(svidTimeoutMs, timer.signal).then(abort, () => undefined);
    try {
      const endpoint = `unix://${workloadApiSocket}`;
      return await X509Source.connect({ endpoint, signal: late.signal, log });
    } catch (cause) {
      const says = `upstream_authority.spire: no SVID from ${workloadApiSocket}`;
      throw new Fault('UNAVAILABLE', says, { cause });
    } finally {
      timer.abort();
      this.#stop.signal.removeEventListener('abort', abort);
    }
  }
}
