import type { Bundle } from '../../identity/bundle.ts';
import type { AgentService } from '../../proto/gen/writ/agent/v1/agent_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import { Watched, type WatchedSource } from '../../runtime/watched.ts';
import type { Agents } from '../attestation/agents.ts';
import type { RegistryChanges } from '../registry/registry-changes.ts';
import type { AgentCaller, Caller } from './callers.ts';
import { agentOf } from './entry-service.ts';
import { StreamLimit } from './stream-limit.ts';

/** An agent needs one; those of an old connection end a little later. */
const WATCHES_PER_AGENT = 8;
/** Each agent that is told asks for its entries, so all of them together may do so this often. */
const TOLD_PER_MS = 2;
const LONGEST_GAP_MS = 500;

export interface WatchEntriesOptions {
  readonly agents: Agents;
  readonly changes: RegistryChanges;
  readonly bundle: WatchedSource<Bundle>;
  readonly clock: Pick<Clock, 'wait'>;
}

/** Tells our agents of changes at once, where SPIRE's ask each five seconds. */
export function watchEntriesService({
  agents,
  changes,
  bundle,
  clock,
}: WatchEntriesOptions): Pick<Implementation<typeof AgentService, Caller>, 'watchEntries'> {
  const limit = new StreamLimit(WATCHES_PER_AGENT);

  async function* watch(agent: AgentCaller, signal: AbortSignal) {
    using wake = changes.wakes.open(agent.record);
    // What ends an agent's right to watch is a change too, so it is asked after each.
    for await (const _ of newest(wake.count, bundle, signal)) {
      await agents.recheck(agent);
      yield { seq: changes.head.value + bundle.value.sequenceNumber };
      // What changes in the gap is told together at its end.
      const gapMs = Math.min(Math.floor(changes.wakes.size / TOLD_PER_MS), LONGEST_GAP_MS);
      if (gapMs > 0) await clock.wait(gapMs, signal).catch(() => undefined);
    }
  }

  return {
    watchEntries(_request, { caller, signal }) {
      const agent = agentOf(caller);
      return limit.hold(agent.record.id, () => watch(agent, signal));
    },
  };
}

/** Wakes and bundle each count upwards, and so does their sum. */
async function* newest(
  head: WatchedSource<bigint>,
  bundle: WatchedSource<Bundle>,
  signal: AbortSignal,
): AsyncIterable<bigint> {
  const sum = () => head.value + bundle.value.sequenceNumber;
  const both = new Watched(sum());
  const ended = new AbortController();
  const stop = () => ended.abort();
  signal.addEventListener('abort', stop);
  const follow = async (source: WatchedSource<unknown>) => {
    for await (const _ of source.values(ended.signal)) both.set(sum());
  };
  const following = Promise.all([follow(head), follow(bundle)]);
  try {
    if (signal.aborted) return;
    yield* both.values(signal);
  } finally {
    ended.abort();
    signal.removeEventListener('abort', stop);
    await following;
  }
}
