import type { Clock } from '../../runtime/clock.ts';
import type { GatewayAudit } from '../access/gateway-audit.ts';
import type { TickedDesk } from './open-session.ts';

export interface WatchDeskOptions {
  readonly desk: TickedDesk;
  readonly audit: GatewayAudit;
  readonly clock: Clock;
}

const LOOK_MS = 100;

/** Counts the time of a desk's sessions and writes counted events that are due, until `signal` aborts. */
export async function watchDesk(
  { desk, audit, clock }: WatchDeskOptions,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    desk.tick();
    audit.tick();
    await clock.wait(LOOK_MS, signal).catch(() => undefined);
  }
}
