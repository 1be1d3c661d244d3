// biome-ignore-all lint/performance/noBarrelFile: an entry point of the package's exports map
/** `writ/identity`: SPIFFE identities for programs of one's own. */
export { type Authorizer, authorizeAny, authorizeId } from './authorizer.ts';
export {
  type Bundle,
  bundleFromJwks,
  bundleFromX509Der,
  bundlePin,
  bundleToJwks,
  bundleToPem,
  type JwtAuthority,
  makeBundle,
  type X509Authority,
} from './bundle.ts';
export { type VerifiedJwtSvid, verifyJwtSvid } from './jwt-svid.ts';
export { parseTrustDomain, SpiffeId, type TrustDomain } from './spiffe-id.ts';
export {
  type ConnectionRefusal,
  type SecureConnection,
  SvidServer,
  type SvidServerOptions,
  svidClientTls,
  tlsConnectOptions,
} from './tls.ts';
export { type VerifiedSvid, verifySvid } from './verify.ts';
export { svidPem, type X509Svid, x509Svid } from './x509-svid.ts';
