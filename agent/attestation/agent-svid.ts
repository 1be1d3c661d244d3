/** Keeps the agent's own SVID alive. */
import type { Bundle } from '../../identity/bundle.ts';
import { createCsr } from '../../identity/x509/csr.ts';
import { generateKey } from '../../identity/x509/key.ts';
import type { X509Svid } from '../../identity/x509-svid.ts';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Backoff } from '../../runtime/backoff.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Watched, WatchedSource } from '../../runtime/watched.ts';
import type { ServerLink } from '../server-link.ts';
import { halfLife } from '../svid/half-life.ts';
import { agentDenial } from './agent-denial.ts';
import type { AgentState } from './agent-state.ts';
import { agentSvid } from './attest.ts';

const RETRY = { firstMs: 500, maximumMs: 30_000 };

export interface RenewOptions {
  readonly svid: Watched<X509Svid>;
  readonly bundle: WatchedSource<Bundle>;
  readonly link: ServerLink;
  readonly state: AgentState;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Renews the agent's SVID at half its life, over and over. Resolves when it has expired without a new
 * one, or `signal` aborts.
 * @throws `RpcError` of which `agentDenial` tells that the server will have no more of this agent
 */
export async function keepRenewed(options: RenewOptions, signal: AbortSignal): Promise<void> {
  const { svid, clock, log } = options;
  const backoff = new Backoff(RETRY);
  let renewAt = halfLife(svid.value.notBefore, svid.value.notAfter);
  while (!signal.aborted) {
    await clock.waitUntil(renewAt, signal);
    if (svid.value.notAfter <= clock.now()) return;
    try {
      await renew(options, signal);
      backoff.reset();
      renewAt = halfLife(clock.now(), svid.value.notAfter);
      log.info({ expires_at: svid.value.notAfter }, 'agent SVID renewed');
    } catch (error) {
      if (signal.aborted || agentDenial(error) !== undefined) throw error;
      log.warn({ err: error }, 'agent SVID not renewed');
      renewAt = new Date(clock.now().getTime() + backoff.next());
    }
  }
}

/** The new SVID is on disk before it is used: from its first use on the old one counts as a copy. */
async function renew(options: RenewOptions, signal: AbortSignal): Promise<void> {
  const { svid, bundle, link, state } = options;
  const key = await generateKey('ec-p256');
  const csr = createCsr(key);
  const answer = await link.call((channel) =>
    channel.client(Agent).renewAgent({ params: { csr } }, { signal }),
  );
  const renewed = agentSvid(answer, key, svid.value.id.trustDomain);
  await state.saveSvid(renewed);
  svid.set(renewed);
  await link.replace(renewed, bundle.value);
}
