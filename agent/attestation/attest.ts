/**
 * First contact: how an agent without an SVID gets one.
 *
 * With a join string it knows the trust domain's root by its SHA-256 alone, the pin. So it asks whoever
 * answers for the bundle, takes from it only the root that has the pin, and speaks to a server only if
 * that proves to be this trust domain's under that root. No secret leaves before.
 */
import { createHash, type KeyObject } from 'node:crypto';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { type Bundle, makeBundle } from '../../identity/bundle.ts';
import { bundleFromMessage } from '../../identity/bundle-message.ts';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import { svidClientTls } from '../../identity/tls.ts';
import { createCsr } from '../../identity/x509/csr.ts';
import { generateKey } from '../../identity/x509/key.ts';
import { type X509Svid, x509Svid } from '../../identity/x509-svid.ts';
import {
  Agent,
  type AttestAgentRequestSchema,
  type AttestAgentResponse_Result,
} from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Bundle as BundleService } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { RpcChannel } from '../../runtime/grpc-client.ts';
import type { NodeAttestor } from '../plugins/node-attestor/node-attestor.ts';
import { RequestStream } from '../request-stream.ts';
import { isServer } from '../server-link.ts';
import type { FirstTrust } from './first-trust.ts';

const TIMEOUT_MS = 20_000;
const MAXIMUM_CHALLENGES = 16;

export interface AttestOptions {
  /** `host:port` */
  readonly server: string;
  readonly trustDomain: TrustDomain;
  readonly trust: FirstTrust;
  readonly attestor: NodeAttestor;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/**
 * Attests this node.
 * @throws Fault `ATTESTATION_DENIED` if the server is not the pinned one, or says no; `RpcError` if it
 *   cannot be reached
 */
export async function attest(
  options: AttestOptions,
): Promise<{ readonly svid: X509Svid; readonly bundle: Bundle }> {
  const { server, trustDomain, clock, signal } = options;
  const bundle = makeBundle({ trustDomain, x509: await firstRoots(options) });
  const authorize = isServer(bundle);
  await using channel = RpcChannel.tls(server, svidClientTls({ bundle, authorize, clock }));
  const key = await generateKey('ec-p256');
  const svid = agentSvid(await runAttestation(channel, key, options), key, trustDomain);
  const full = await channel.client(BundleService).getBundle({}, { signal });
  return { svid, bundle: bundleFromMessage(full, trustDomain) };
}

/** The roots that the server is to prove itself under. */
async function firstRoots(options: AttestOptions): Promise<readonly Uint8Array[]> {
  const { server, trust } = options;
  if (trust.kind === 'roots') return trust.roots;
  const shown = await shownRoots(options);
  if (trust.kind === 'first-use') return shown;
  const pinned = shown.filter((root) => trust.pins.includes(sha256(root)));
  if (pinned.length > 0) return pinned;
  throw new Fault(
    'ATTESTATION_DENIED',
    `the server at ${server} is not the one that the join string was made for`,
  );
}

/** As a server that nobody has vouched for yet tells them. */
async function shownRoots({ server, signal }: AttestOptions): Promise<readonly Uint8Array[]> {
  await using channel = RpcChannel.unverifiedTls(server);
  const { x509Authorities } = await channel.client(BundleService).getBundle({}, { signal });
  return x509Authorities.map(({ asn1 }) => asn1);
}

async function runAttestation(
  channel: RpcChannel,
  key: KeyObject,
  { attestor, signal }: AttestOptions,
): Promise<AttestAgentResponse_Result> {
  const requests = new RequestStream<MessageInitShape<typeof AttestAgentRequestSchema>>();
  try {
    const payload = await attestor.evidence(signal);
    const params = { data: { type: attestor.type, payload }, params: { csr: createCsr(key) } };
    requests.push({ step: { case: 'params', value: params } });
    const client = channel.client(Agent);
    let challenges = 0;
    for await (const { step } of client.attestAgent(requests, { signal, timeoutMs: TIMEOUT_MS })) {
      if (step.case === 'result') return step.value;
      if (step.case !== 'challenge' || challenges++ === MAXIMUM_CHALLENGES) break;
      const value = await attestor.answer(step.value, signal);
      requests.push({ step: { case: 'challengeResponse', value } });
    }
  } finally {
    requests.end();
  }
  throw new Fault('ATTESTATION_DENIED', 'the server ended the attestation without a result');
}

/**
 * The SVID in a server's answer, which must be an agent's of this trust domain, for this key.
 * @throws Fault `ATTESTATION_DENIED`
 */
export function agentSvid(
  { svid }: Pick<AttestAgentResponse_Result, 'svid'>,
  key: KeyObject,
  trustDomain: TrustDomain,
): X509Svid {
  const parsed = x509Svid(svid?.certChain ?? [], key);
  if (parsed.id.trustDomain === trustDomain && parsed.id.path.startsWith('/spire/agent/')) {
    return parsed;
  }
  throw new Fault('ATTESTATION_DENIED', `the server answered with an SVID of ${parsed.id}`);
}

function sha256(der: Uint8Array): string {
  return createHash('sha256').update(der).digest('hex');
}
