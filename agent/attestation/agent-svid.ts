/** Keeps the agent's own SVID alive. */
import type { Bundle } from '../../identity/bundle.ts';
import { createCsr } from '../../identity/x509/csr.ts';
import { generateKey } from '../../identity/x509/key.ts';
import type { X509Svid } from '../../identity/x509-svid.ts';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Backoff } from '../../runtime/backoff.ts';
import type { Clock } from '../../runtime/clock.ts';
import { type Deadline, deadlineAt, untilDeadline } from '../../runtime/deadline.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Watched, WatchedSource } from '../../runtime/watched.ts';
import type { ServerLink } from '../server-link.ts';
import { authorityStanding } from '../svid/authority-standing.ts';
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
  /** Attests the node anew, under the authorities of that bundle; undefined if it cannot be proved again. */
  readonly reattest: ((known: Bundle, signal: AbortSignal) => Promise<X509Svid>) | undefined;
}

/**
 * Renews the agent's SVID at half its life, over and over, and at once when its authority is tainted:
 * with that revoked, the server would not know this agent any more. Resolves when it has expired
 * without a new one where the node cannot be proved again, or `signal` aborts.
 * @throws `RpcError` of which `agentDenial` tells that the server will have no more of this agent
 */
export async function keepRenewed(options: RenewOptions, signal: AbortSignal): Promise<void> {
  const { svid, bundle, clock, log } = options;
  const backoff = new Backoff(RETRY);
  let renewAt = deadlineAt(halfLife(svid.value.notBefore, svid.value.notAfter), clock);
  let answered: Bundle | undefined;
  while (!signal.aborted) {
    await untilDue(renewAt, answered, options, signal);
    const asked = bundle.value;
    // Who is proved by something that lasts needs no SVID for that.
    if (options.reattest === undefined && svid.value.notAfter <= clock.now()) return;
    try {
      await renew(options, signal);
      backoff.reset();
      answered = asked;
      renewAt = deadlineAt(halfLife(clock.now(), svid.value.notAfter), clock);
      log.info({ expires_at: svid.value.notAfter }, 'agent SVID renewed');
    } catch (error) {
      if (signal.aborted || agentDenial(error) !== undefined) throw error;
      log.warn({ err: error }, 'agent SVID not renewed');
      await clock.wait(backoff.next(), signal);
      renewAt = deadlineAt(clock.now(), clock);
    }
  }
}

/**
 * Waits until `renewAt`, or until the SVID's authority is tainted in a bundle other than `answered`:
 * after that one an SVID has been issued already.
 */
async function untilDue(
  renewAt: Deadline,
  answered: Bundle | undefined,
  { svid, bundle, clock }: RenewOptions,
  signal: AbortSignal,
): Promise<void> {
  const stop = new AbortController();
  const abort = () => stop.abort(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) abort();
  const tainted = async () => {
    for await (const now of bundle.values(stop.signal)) {
      if (now !== answered && authorityStanding(svid.value.chain, now) !== 'good') return;
    }
  };
  try {
    const due = untilDeadline(renewAt, clock, stop.signal);
    due.catch(() => undefined);
    await Promise.race([due, tainted()]);
  } finally {
    signal.removeEventListener('abort', abort);
    stop.abort();
  }
  signal.throwIfAborted();
}

/**
 * The new SVID is on disk before it is used: from its first use on the old one counts as a copy. After
 * attesting anew it does so at once, and no call may be under way with it.
 */
async function renew(options: RenewOptions, signal: AbortSignal): Promise<void> {
  const { svid, bundle, link, state, reattest } = options;
  const keep = async (renewed: X509Svid) => {
    await state.saveSvid(renewed);
    svid.set(renewed);
    return { svid: renewed, bundle: bundle.value };
  };
  if (reattest === undefined) {
    const kept = await keep(await renewedSvid(options, signal));
    await link.replace(kept.svid, kept.bundle);
  } else {
    await link.replaceBy(async () => keep(await reattest(bundle.value, signal)));
  }
}

async function renewedSvid({ svid, link }: RenewOptions, signal: AbortSignal): Promise<X509Svid> {
  const key = await generateKey('ec-p256');
  const csr = createCsr(key);
  const answer = await link.call((channel) =>
    channel.client(Agent).renewAgent({ params: { csr } }, { signal }),
  );
  return agentSvid(answer, key, svid.value.id.trustDomain);
}
