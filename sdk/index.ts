// biome-ignore-all lint/performance/noBarrelFile: an entry point of the package's exports map
/** What a service needs to hold an identity of its own and to know its peers. */
export { type Authorizer, authorizeAny, authorizeId } from '../identity/authorizer.ts';
export type { Bundle } from '../identity/bundle.ts';
export { parseTrustDomain, SpiffeId, type TrustDomain } from '../identity/spiffe-id.ts';
export { svidPem, type X509Svid } from '../identity/x509-svid.ts';
export { Fault, type FaultCode } from '../runtime/fault.ts';
export { RpcError } from '../runtime/grpc-client.ts';
export type { WatchedSource } from '../runtime/watched.ts';
export { ENDPOINT_VARIABLE, parseEndpoint } from './endpoint.ts';
export { fetchJwtSvid } from './jwt-source.ts';
export { type FetchedJwtSvid, WorkloadApiClient, type X509Context } from './workload-api-client.ts';
export { X509Source, type X509SourceOptions } from './x509-source.ts';
