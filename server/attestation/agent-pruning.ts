import { BackgroundLoop } from '../../runtime/background-loop.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Agents, PruningPeriods } from './agents.ts';

const INTERVAL_MS = 10 * 60 * 1000;
const RETRY_MS = 60_000;
/** So that other writers get in between, and no turn holds the store for long. */
const AT_ONCE = 50;
const PAUSE_MS = 250;

export interface AgentPruningOptions {
  readonly agents: Pick<Agents, 'prune'>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly periods: PruningPeriods;
}

/**
 * Forgets agents that ended long ago, or each CI job would leave one for good. Runs until what it returns is
 * disposed.
 */
export function pruneAgents({ agents, clock, log, periods }: AgentPruningOptions): BackgroundLoop {
  const turn = async () => {
    const pruned = await agents.prune(periods, AT_ONCE);
    if (pruned > 0) log.info({ count: pruned }, 'agents forgotten that ended long ago');
    return pruned < AT_ONCE ? INTERVAL_MS : PAUSE_MS;
  };
  const failure = 'agents that ended could not be forgotten';
  return new BackgroundLoop({ turn, clock, log, failure, retryMs: () => RETRY_MS });
}
