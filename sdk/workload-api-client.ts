/** SPIFFE's Workload API, as a workload calls it. */
import { createPrivateKey } from 'node:crypto';
import {
  type Bundle,
  bundleFromJwks,
  bundleFromX509Der,
  splitX509Der,
} from '../identity/bundle.ts';
import { SpiffeId, type TrustDomain } from '../identity/spiffe-id.ts';
import { type X509Svid, x509Svid } from '../identity/x509-svid.ts';
import {
  type JWTSVIDResponse,
  SpiffeWorkloadAPI,
  type X509SVID,
  type X509SVIDResponse,
} from '../proto/gen/spiffe/workload/workload_pb.ts';
import { Fault } from '../runtime/fault.ts';
import { type Client, RpcChannel } from '../runtime/grpc-client.ts';
import { endpointPath } from './endpoint.ts';

/** Source: SPIFFE Workload Endpoint 3. */
export const METADATA = { 'workload.spiffe.io': 'true' } as const;

/** One state of a workload's X.509 identities. */
export interface X509Context {
  /** The default identity first; at least one. */
  readonly svids: readonly X509Svid[];
  /** By trust domain; the own one is there. */
  readonly bundles: ReadonlyMap<TrustDomain, Bundle>;
  /** Revocation lists, DER, read by nobody yet; none from an agent of another make. */
  readonly crls: readonly Uint8Array[];
}

/** A JWT-SVID as it was fetched; the workload that it is for verifies it. */
export interface FetchedJwtSvid {
  readonly id: SpiffeId;
  readonly token: string;
  readonly hint: string;
}

export class WorkloadApiClient implements AsyncDisposable {
  readonly #channel: RpcChannel;
  readonly #client: Client<typeof SpiffeWorkloadAPI>;

  /**
   * @param endpoint `unix:///path`; that of the environment if left out
   * @throws Fault `INVALID_ARGUMENT`
   */
  constructor(endpoint?: string) {
    this.#channel = RpcChannel.unix(endpointPath(endpoint));
    this.#client = this.#channel.client(SpiffeWorkloadAPI);
  }

  /** The identities now, then after each change; fails with `RpcError` when the stream does. */
  async *watchX509(signal: AbortSignal): AsyncIterable<X509Context> {
    const stream = this.#client.fetchX509SVID({}, { signal, metadata: METADATA });
    for await (const response of stream) yield x509Context(response);
  }

  /** The JWT bundles now, then after each change; fails with `RpcError` when the stream does. */
  async *watchJwtBundles(signal: AbortSignal): AsyncIterable<ReadonlyMap<TrustDomain, Bundle>> {
    const stream = this.#client.fetchJWTBundles({}, { signal, metadata: METADATA });
    for await (const { bundles } of stream) {
      yield byTrustDomain(bundles, (name, bytes) =>
        bundleFromJwks(name, Buffer.from(bytes).toString('utf8')),
      );
    }
  }

  /** @param spiffeId one of the workload's; all of them if left out. @throws `RpcError` */
  async fetchJwtSvids(
    audience: readonly string[],
    options: { readonly spiffeId?: SpiffeId | undefined; readonly signal: AbortSignal },
  ): Promise<FetchedJwtSvid[]> {
    const spiffeId = options.spiffeId === undefined ? '' : String(options.spiffeId);
    const response = await this.#client.fetchJWTSVID(
      { audience: [...audience], spiffeId },
      { signal: options.signal, metadata: METADATA },
    );
    return jwtSvids(response);
  }

  /** Has the agent verify a token. @throws `RpcError` with status `INVALID_ARGUMENT` if it does not */
  async validateJwtSvid(
    token: string,
    audience: string,
    signal: AbortSignal,
  ): Promise<{ readonly id: SpiffeId; readonly claims: Readonly<Record<string, unknown>> }> {
    const { spiffeId, claims } = await this.#client.validateJWTSVID(
      { svid: token, audience },
      { signal, metadata: METADATA },
    );
    return { id: SpiffeId.parse(spiffeId), claims: claims ?? {} };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#channel[Symbol.asyncDispose]();
  }
}

function x509Context({ svids, federatedBundles, crl }: X509SVIDResponse): X509Context {
  const [first] = svids;
  if (first === undefined) throw new Fault('PROTOCOL_VIOLATION', 'the agent sent no X509-SVID');
  const bundles = new Map(byTrustDomain(federatedBundles, bundleFromX509Der));
  for (const { spiffeId, bundle } of svids) {
    const { trustDomain } = SpiffeId.parse(spiffeId);
    bundles.set(trustDomain, bundleFromX509Der(trustDomain, bundle));
  }
  return { svids: svids.map(parseSvid), bundles, crls: crl };
}

function parseSvid({ spiffeId, x509Svid: chain, x509SvidKey, hint }: X509SVID): X509Svid {
  const key = createPrivateKey({ key: Buffer.from(x509SvidKey), format: 'der', type: 'pkcs8' });
  const svid = x509Svid(splitX509Der(chain), key, hint);
  if (String(svid.id) === spiffeId) return svid;
  throw new Fault('PROTOCOL_VIOLATION', `the agent called an SVID of ${svid.id} by another name`);
}

function jwtSvids({ svids }: JWTSVIDResponse): FetchedJwtSvid[] {
  if (svids.length === 0) throw new Fault('PROTOCOL_VIOLATION', 'the agent sent no JWT-SVID');
  return svids.map(({ spiffeId, svid, hint }) => ({
    id: SpiffeId.parse(spiffeId),
    token: svid,
    hint,
  }));
}

function byTrustDomain(
  bundles: Readonly<Record<string, Uint8Array>>,
  read: (trustDomain: TrustDomain, bytes: Uint8Array) => Bundle,
): ReadonlyMap<TrustDomain, Bundle> {
  return new Map(
    Object.entries(bundles).map(([id, bytes]) => {
      const { trustDomain } = SpiffeId.parse(id);
      return [trustDomain, read(trustDomain, bytes)];
    }),
  );
}
