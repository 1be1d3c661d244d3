/** How a job without an agent becomes one: node attestor `oidc`, whose other half is the server's. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { Bundle } from '../../identity/bundle.ts';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { svidClientTls } from '../../identity/tls.ts';
import { createCsr } from '../../identity/x509/csr.ts';
import { generateKey } from '../../identity/x509/key.ts';
import { type X509Svid, x509Svid } from '../../identity/x509-svid.ts';
import {
  Agent,
  type AttestAgentRequestSchema,
} from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { RpcChannel } from '../../runtime/grpc-client.ts';
import type { JobTokenSource } from './job-token.ts';

const TIMEOUT_MS = 30_000;
const LONGEST_AUDIENCE = 1024;

export interface AttestJobOptions {
  /** `host:port` */
  readonly server: string;
  /** The trust domain's roots, which the server is proved by. */
  readonly bundle: Bundle;
  /** The issuer's name in the server's configuration. */
  readonly provider: string;
  readonly token: JobTokenSource;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

export interface AttestedJob {
  readonly svid: X509Svid;
  readonly obtainedAt: Date;
  readonly canReattest: boolean;
  /** `oidc:...`, as the server may have found them: what the token says. */
  readonly selectors: readonly string[];
}

type Request = MessageInitShape<typeof AttestAgentRequestSchema>;

/** @throws Fault ATTESTATION_DENIED; `RpcError`; what the token's source throws */
export async function attestJob(options: AttestJobOptions): Promise<AttestedJob> {
  const { server, bundle, provider, token: source, clock, signal } = options;
  await using channel = RpcChannel.tls(server, serverTls({ bundle, clock }));
  const key = await generateKey('ec-p256');
  let onChallenge: (audience: string) => void = () => undefined;
  const challenged = new Promise<string>((resolve) => {
    onChallenge = resolve;
  });
  let token = '';
  async function* requests(): AsyncGenerator<Request> {
    const payload = Buffer.from(JSON.stringify({ provider }));
    const data = { type: 'oidc', payload };
    yield { step: { case: 'params', value: { data, params: { csr: createCsr(key) } } } };
    token = await source(await challenged, signal);
    yield { step: { case: 'challengeResponse', value: Buffer.from(token) } };
  }
  const call = { signal, timeoutMs: TIMEOUT_MS };
  for await (const { step } of channel.client(Agent).attestAgent(requests(), call)) {
    if (step.case === 'challenge') onChallenge(audienceIn(step.value));
    if (step.case !== 'result') continue;
    const svid = agentSvid(x509Svid(step.value.svid?.certChain ?? [], key), bundle);
    const selectors = selectorsOf(provider, token);
    const { reattestable: canReattest } = step.value;
    return { svid, obtainedAt: clock.now(), canReattest, selectors };
  }
  throw new Fault('ATTESTATION_DENIED', 'the server ended the attestation without a result');
}

/** How a server of this bundle's trust domain is spoken to, as `svid`'s holder or as nobody. */
export function serverTls(options: {
  readonly bundle: Bundle;
  readonly clock: Clock;
  readonly svid?: X509Svid;
}) {
  const { trustDomain } = options.bundle;
  const expected = String(SpiffeId.fromSegments(trustDomain, 'spire', 'server'));
  return svidClientTls({ ...options, authorize: (id) => String(id) === expected });
}

/** @throws Fault ATTESTATION_DENIED unless it is an agent's of the trust domain */
export function agentSvid(svid: X509Svid, { trustDomain }: Bundle): X509Svid {
  const { id } = svid;
  if (id.trustDomain === trustDomain && id.path.startsWith('/spire/agent/')) return svid;
  throw new Fault('ATTESTATION_DENIED', `the server answered with an SVID of ${id}`);
}

function audienceIn(challenge: Uint8Array): string {
  try {
    const asked: unknown = JSON.parse(Buffer.from(challenge).toString('utf8'));
    if (typeof asked === 'object' && asked !== null && 'audience' in asked) {
      const { audience } = asked;
      if (typeof audience === 'string' && audience.length <= LONGEST_AUDIENCE) return audience;
    }
  } catch (cause) {
    throw new Fault('PROTOCOL_VIOLATION', 'the server’s challenge is malformed', { cause });
  }
  throw new Fault('PROTOCOL_VIOLATION', 'the server’s challenge names no audience');
}

/** All that the token says of itself; the server has verified the part that counts. */
function selectorsOf(provider: string, token: string): string[] {
  const body = Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8');
  const claims: unknown = JSON.parse(body);
  const told = Object.entries(typeof claims === 'object' && claims !== null ? claims : {});
  return [
    `oidc:issuer:${provider}`,
    ...told.flatMap(([name, value]) =>
      ['string', 'number', 'boolean'].includes(typeof value) ? [`oidc:claim:${name}:${value}`] : [],
    ),
  ];
}
