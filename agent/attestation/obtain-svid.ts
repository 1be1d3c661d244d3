import type { Bundle } from '../../identity/bundle.ts';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import type { X509Svid } from '../../identity/x509-svid.ts';
import { Backoff } from '../../runtime/backoff.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { RpcError } from '../../runtime/grpc-client.ts';
import type { Logger } from '../../runtime/log.ts';
import type { AgentState } from './agent-state.ts';
import { attest } from './attest.ts';
import type { NodeProof } from './node-proof.ts';

const RETRY = { firstMs: 200, maximumMs: 5000 };
/** What a server that is starting, overloaded or out of reach makes of a call. */
const PASSING: ReadonlySet<string> = new Set([
  'DEADLINE_EXCEEDED',
  'RESOURCE_EXHAUSTED',
  'UNAVAILABLE',
]);

export interface ObtainOptions {
  /** `host:port` */
  readonly server: string;
  readonly trustDomain: TrustDomain;
  /** How to attest, asked for when it comes to that, with the bundle of an earlier attestation. */
  readonly proof: (known: Bundle | undefined) => Promise<NodeProof>;
  readonly state: AgentState;
  readonly clock: Clock;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/**
 * The agent's SVID and bundle: those of the last run if they still hold, or else by attestation, which
 * waits for a server that is out of reach.
 * @throws Fault that says what to do
 */
export async function obtainSvid(
  options: ObtainOptions,
): Promise<{ readonly svid: X509Svid; readonly bundle: Bundle }> {
  const { state, trustDomain, clock, log } = options;
  const kept = await state.load(trustDomain, clock);
  if (kept !== undefined) return kept;
  const proof = await options.proof(await state.loadBundle(trustDomain));
  if (proof.trust.kind === 'first-use')
    log.warn('insecure_bootstrap: whoever answers as the server is trusted');
  const obtained = await attestWithPatience(options, proof);
  // The token is spent now. The bundle goes first, since an SVID without one is worth nothing.
  await state.saveBundle(obtained.bundle);
  await state.saveSvid(obtained.svid);
  return obtained;
}

async function attestWithPatience(options: ObtainOptions, { attestor, trust }: NodeProof) {
  const { server, trustDomain, clock, log, signal } = options;
  const backoff = new Backoff(RETRY);
  for (;;) {
    try {
      return await attest({ server, trustDomain, trust, attestor, clock, signal });
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof RpcError)) throw error;
      if (!PASSING.has(error.status)) throw refused(error);
      log.warn({ peer_addr: server, err: error }, 'the server cannot be reached for attestation');
    }
    await clock.wait(backoff.next(), signal);
  }
}

function refused(error: RpcError): Fault {
  const message = `the server refuses this node: ${error.message}`;
  return new Fault(error.faultCode ?? 'ATTESTATION_DENIED', message, { cause: error });
}
