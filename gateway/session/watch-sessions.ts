import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { GatewayAudit } from '../access/gateway-audit.ts';
import type { Heartbeats } from '../access/heartbeats.ts';
import type { LiveSession, SessionTable } from './session-table.ts';

export interface WatchOptions {
  readonly table: SessionTable;
  readonly heartbeats: Heartbeats;
  readonly audit: GatewayAudit;
  readonly clock: Clock;
}

const LOOK_MS = 100;
const AUDIT_TICK_MS = 1000;

/**
 * Ends sessions that have reached their end or have outlived their server's silence, within 100 ms, until
 * `signal` aborts. One timer serves all sessions, and looks again after whatever the machine did.
 */
export async function watchSessions(options: WatchOptions, signal: AbortSignal): Promise<void> {
  const { table, audit, clock } = options;
  let nextTickMs = 0;
  while (!signal.aborted) {
    for (const session of table.sessions) endIfDue(session, options);
    if (clock.monotonicMs() >= nextTickMs) {
      audit.tick();
      nextTickMs = clock.monotonicMs() + AUDIT_TICK_MS;
    }
    await clock.wait(LOOK_MS, signal).catch(() => undefined);
  }
}

function endIfDue(session: LiveSession, { heartbeats, audit, clock }: WatchOptions): void {
  if (session.hasEnded) return;
  if (isOver(session, heartbeats, clock)) {
    const at = session.expiresAt.toISOString();
    const fault = new Fault('PERMISSION_DENIED', `the session reached its end at ${at}`);
    session.terminate(fault, 'expired');
  } else if (heartbeats.isTooStaleToLive(session.backend)) {
    const seconds = Math.floor(heartbeats.silentMs() / 1000);
    audit.endedStale(session.subjects, seconds);
    const message = `the gateway has not heard from its server for ${seconds} s`;
    session.terminate(new Fault('UNAVAILABLE', message), 'stale');
  }
}

/** The monotonic clock stands still while a machine sleeps, so the server's own time counts as well. */
function isOver(session: LiveSession, heartbeats: Heartbeats, clock: Clock): boolean {
  const serverNow = heartbeats.serverNow();
  if (serverNow !== undefined && serverNow >= session.expiresAt) return true;
  return clock.monotonicMs() >= session.deadlineMs;
}
