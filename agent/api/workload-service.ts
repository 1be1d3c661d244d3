/** SPIFFE's Workload API: X.509 and JWT profiles. What it does not offer answers UNIMPLEMENTED. */
import type { DescMessage, JsonObject } from '@bufbuild/protobuf';
import { type Bundle, bundleToJwks, bundleToX509Der } from '../../identity/bundle.ts';
import { verifyJwtSvid } from '../../identity/jwt-svid.ts';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import {
  JWTBundlesResponseSchema,
  type JWTSVIDRequest,
  type SpiffeWorkloadAPI,
  type ValidateJWTSVIDRequest,
  X509BundlesResponseSchema,
  X509SVIDResponseSchema,
} from '../../proto/gen/spiffe/workload/workload_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Encoded } from '../../runtime/grpc.ts';
import type { Call, Implementation } from '../../runtime/grpc-server.ts';
import type { CacheState, Identity, SvidCache } from '../svid/cache.ts';
import { entryMatches, withoutRepeatedHints } from '../svid/entry.ts';
import type { JwtCache } from '../svid/jwt-cache.ts';
import { type Composed, StateMessages, type Told } from './state-messages.ts';

const MAXIMUM_AUDIENCES = 32;
const MAXIMUM_AUDIENCE_LENGTH = 1024;

/** Who is on the other side of a call. */
export interface WorkloadPeer {
  /**
   * What it holds now (`type:value`), read anew each time.
   * @param wanted what is asked about, e.g. `unix:path`; anything else may be left out
   * @throws Fault if it has gone
   */
  selectors(wanted: ReadonlySet<string>): Promise<ReadonlySet<string>>;
  /** Counts one more stream, until what it returns is called. @throws Fault if there are too many */
  enterStream(): () => void;
}

export interface WorkloadServiceOptions {
  readonly cache: SvidCache;
  readonly jwts: JwtCache;
  readonly clock: Clock;
}

type Service = Implementation<typeof SpiffeWorkloadAPI, WorkloadPeer>;

export function workloadService(options: WorkloadServiceOptions): Partial<Service> {
  const svids = new StateMessages(X509SVIDResponseSchema, x509Response);
  const x509Bundles = new StateMessages(X509BundlesResponseSchema, ({ state, identities }) => ({
    message: {
      bundles: byDomain([state.bundle, ...federatedOf(state, identities)], bundleToX509Der),
      crl: [...state.crls],
    },
  }));
  const jwtBundles = new StateMessages(JWTBundlesResponseSchema, ({ state, identities }) => ({
    message: {
      bundles: byDomain([state.bundle, ...federatedOf(state, identities)], (bundle) =>
        Buffer.from(bundleToJwks(bundle, 'jwt-svid')),
      ),
    },
  }));
  return {
    fetchX509SVID: (_request, call) => fullStates(options, call, svids),
    fetchX509Bundles: (_request, call) => fullStates(options, call, x509Bundles),
    fetchJWTBundles: (_request, call) => fullStates(options, call, jwtBundles),
    fetchJWTSVID: (request, call) => fetchJwts(options, request, call),
    validateJWTSVID: (request, call) => validateJwt(options, request, call),
  };
}

/**
 * A stream of whole states: the first at once, then one after each change that this caller can see.
 * Who calls is attested again before each, and the stream ends when it is no longer entitled.
 */
async function* fullStates<S extends DescMessage>(
  { cache, clock }: WorkloadServiceOptions,
  { caller, signal }: Call<WorkloadPeer>,
  messages: StateMessages<S>,
): AsyncIterable<Encoded<S>> {
  const leave = caller.enterStream();
  let sent: Encoded<S> | undefined;
  try {
    for await (const state of cache.state.values(signal)) {
      const identities = await entitled(cache, state, caller);
      const isFirst = sent === undefined;
      const message = messages.of({ state, identities, isFirst }, clock.now());
      if (message === undefined || sent?.bytes.equals(message.bytes) === true) continue;
      sent = message;
      yield message;
    }
  } finally {
    leave();
  }
}

/** The identities of a caller, as it is now: at least one. @throws Fault */
async function entitled(
  cache: SvidCache,
  state: CacheState,
  caller: WorkloadPeer,
): Promise<readonly Identity[]> {
  if (!state.synced) throw notSynced();
  const selectors = await caller.selectors(state.selectorKinds);
  const matched = cache.match(state, selectors).filter(({ lack }) => lack !== 'refused');
  if (matched.length === 0) throw noIdentity();
  return withoutRepeatedHints(matched);
}

function x509Response(
  { state, identities, isFirst }: Told,
  now: Date,
): Composed<typeof X509SVIDResponseSchema> | undefined {
  if (isFirst && identities.some(isPending)) return undefined;
  const svids = identities.flatMap(({ svid }) =>
    svid === undefined || svid.notAfter <= now ? [] : svid,
  );
  if (svids.length > 0) {
    const message = {
      svids: svids.map((svid) => ({
        spiffeId: String(svid.id),
        x509Svid: Buffer.concat(svid.chain),
        x509SvidKey: svid.privateKey.export({ type: 'pkcs8', format: 'der' }),
        bundle: bundleToX509Der(state.bundle),
        hint: svid.hint,
      })),
      federatedBundles: byDomain(federatedOf(state, identities), bundleToX509Der),
      crl: [...state.crls],
    };
    const ends = svids.map(({ notAfter }) => notAfter.getTime());
    return { message, until: new Date(Math.min(...ends)) };
  }
  if (identities.some(isPending)) return undefined;
  throw new Fault('UNAVAILABLE', 'no X509-SVID can be issued now');
}

/** Many clients take one answer and go, so the first is complete, as SPIRE's is. */
function isPending({ lack }: Identity): boolean {
  return lack === 'pending';
}

async function fetchJwts(
  { cache, jwts }: WorkloadServiceOptions,
  { audience, spiffeId }: JWTSVIDRequest,
  { caller }: Call<WorkloadPeer>,
) {
  checkAudience(audience);
  const wanted = spiffeId === '' ? undefined : String(SpiffeId.parse(spiffeId));
  const identities = (await entitled(cache, cache.state.value, caller)).filter(
    ({ entry }) => wanted === undefined || String(entry.spiffeId) === wanted,
  );
  if (identities.length === 0) throw noIdentity();
  const svids = await Promise.all(
    identities.map(async ({ entry }) => ({
      spiffeId: String(entry.spiffeId),
      svid: await jwts.get(entry, audience),
      hint: entry.hint,
    })),
  );
  return { svids };
}

async function validateJwt(
  { cache, clock }: WorkloadServiceOptions,
  { audience, svid }: ValidateJWTSVIDRequest,
  { caller }: Call<WorkloadPeer>,
) {
  checkAudience([audience]);
  if (svid === '') throw new Fault('INVALID_ARGUMENT', 'svid must be given');
  const state = cache.state.value;
  if (!state.synced) throw notSynced();
  const held = await caller.selectors(state.selectorKinds);
  const identities = state.identities.filter(({ entry }) => entryMatches(entry, held));
  const known = [state.bundle, ...federatedOf(state, identities)];
  const bundles = (name: string) => known.find(({ trustDomain }) => trustDomain === name);
  const verified = verifyJwtSvid(svid, audience, bundles, clock.now());
  const isForeign = verified.id.trustDomain !== state.bundle.trustDomain;
  // What was read from JSON is a JsonObject.
  const claims = { ...(verified.claims as JsonObject), aud: [...verified.audience] };
  return { spiffeId: String(verified.id), claims: isForeign ? commonClaims(claims) : claims };
}

function checkAudience(audience: readonly string[]): void {
  if (audience.length === 0 || audience.includes('')) {
    throw new Fault('INVALID_ARGUMENT', 'audience must be given');
  }
  const tooLong = audience.some((one) => one.length > MAXIMUM_AUDIENCE_LENGTH);
  if (tooLong || audience.length > MAXIMUM_AUDIENCES) {
    const limit = `at most ${MAXIMUM_AUDIENCES} of ${MAXIMUM_AUDIENCE_LENGTH} characters`;
    throw new Fault('INVALID_ARGUMENT', `audience: ${limit}`);
  }
}

/** A foreign issuer's other claims mean nothing here; as SPIRE. */
function commonClaims({ sub = '', exp = 0, aud = [] }: JsonObject): JsonObject {
  return { sub, exp, aud };
}

/** The foreign bundles that these identities are for. */
function federatedOf({ federated }: CacheState, identities: readonly Identity[]): Bundle[] {
  const names = new Set(identities.flatMap(({ entry }) => entry.federatesWith));
  return [...names].sort().flatMap((name) => federated.get(name) ?? []);
}

function byDomain(
  bundles: readonly Bundle[],
  encode: (bundle: Bundle) => Uint8Array,
): Record<string, Uint8Array> {
  return Object.fromEntries(bundles.map((bundle) => [domainId(bundle), encode(bundle)]));
}

function domainId(bundle: Bundle): string {
  return String(SpiffeId.fromSegments(bundle.trustDomain));
}

function notSynced(): Fault {
  return new Fault('UNAVAILABLE', 'the agent has not heard from its server yet');
}

function noIdentity(): Fault {
  return new Fault('PERMISSION_DENIED', 'no identity issued');
}
