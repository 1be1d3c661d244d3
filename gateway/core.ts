import { join } from 'node:path';
import type { Clock } from '../runtime/clock.ts';
import type { Logger } from '../runtime/log.ts';
import type { WatchedSource } from '../runtime/watched.ts';
import type { GatewayApi } from './access/gateway-api.ts';
import type { GatewayAudit } from './access/gateway-audit.ts';
import type { GatewaySnapshot } from './access/snapshot.ts';
import { startControl } from './control.ts';
import type { GatewayMetrics } from './metrics.ts';
import { loadGatewayKeys } from './recording/gateway-keys.ts';
import { Recordings } from './recording/recordings.ts';
import { DayUses } from './session/day-use.ts';
import { sessionDesk } from './session/open-session.ts';
import type { SessionDesk } from './session/session-desk.ts';
import type { SessionLimits } from './session/session-table.ts';
import { watchDesk } from './session/watch-desk.ts';

export interface CoreOptions {
  readonly version: string;
  /** TCP ports that clients come to, by protocol. */
  readonly ports: Readonly<Record<string, number>>;
  /** Exists, 0700. */
  readonly stateDir: string;
  readonly limits: SessionLimits;
  readonly api: () => GatewayApi;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: GatewayMetrics;
}

/** What a gateway's ports need to serve clients. */
export interface ServingCore {
  readonly desk: SessionDesk;
  readonly snapshot: WatchedSource<GatewaySnapshot>;
  readonly audit: GatewayAudit;
  /** The server, on the newest channel. */
  readonly api: () => GatewayApi;
  /** Aborts when the gateway begins to stop. */
  readonly signal: AbortSignal;
}

/** A gateway of one process, without its ports: what it knows of its server, its sessions, their records. */
export interface GatewayCore extends ServingCore {
  /** `true`, or why no session can be opened. */
  ready(): true | string;
  /** Leaves the stream for one on the channel that `api` gives now. */
  reconnect(): void;
  /**
   * Ends every session, waits for their records and the server's knowledge of them, at most 3 s, and
   * stops. Idempotent.
   */
  stop(reason: string): Promise<void>;
}

/** @throws Fault STATE_UNUSABLE */
export async function startCore(options: CoreOptions): Promise<GatewayCore> {
  const { stateDir, api, clock, log, metrics } = options;
  const keys = await loadGatewayKeys(stateDir);
  const recordings = openRecordings(stateDir, { key: keys.recording, clock });
  const budgets = { directory: budgetsIn(stateDir), clock };
  DayUses.removeOld(budgets);
  const dayUses = new DayUses(budgets);
  const control = startControl({ ...options, recordings });
  const { admission, audit, snapshot } = control;
  const desk = sessionDesk({
    ...{ admission, recordings, dayUses, audit },
    ...{ hmacKey: keys.hmacKey, clock, log, metrics },
  });
  const ended = new AbortController();
  const watching = watchDesk({ desk, audit, clock }, ended.signal);

  async function stopNow(reason: string): Promise<void> {
    await control.stop(reason);
    ended.abort();
    await watching;
    dayUses[Symbol.dispose]();
  }

  let stopped: Promise<void> | undefined;
  return {
    ...{ desk, snapshot, audit, api, signal: control.signal },
    ready: () => control.ready(),
    reconnect: () => control.reconnect(),
    stop: (reason) => {
      stopped ??= stopNow(reason);
      return stopped;
    },
  };
}

/** The recordings of a gateway, which all of its processes share: each session has a directory. */
export function openRecordings(
  stateDir: string,
  options: Omit<ConstructorParameters<typeof Recordings>[0], 'directory'>,
): Recordings {
  return new Recordings({ directory: join(stateDir, 'recordings'), ...options });
}

/** Where a gateway keeps what its days have used. */
export function budgetsIn(stateDir: string): string {
  return join(stateDir, 'budgets');
}
