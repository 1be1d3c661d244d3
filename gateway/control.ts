import { setMaxListeners } from 'node:events';
import { join } from 'node:path';
import type { Snapshot } from '../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { Clock } from '../runtime/clock.ts';
import { Fault } from '../runtime/fault.ts';
import type { Logger } from '../runtime/log.ts';
import { Watched, type WatchedSource } from '../runtime/watched.ts';
import { EventSpool } from './access/event-spool.ts';
import type { GatewayApi } from './access/gateway-api.ts';
import { GatewayAudit } from './access/gateway-audit.ts';
import { Heartbeats } from './access/heartbeats.ts';
import { ServerStream } from './access/server-stream.ts';
import { EMPTY_SNAPSHOT, type GatewaySnapshot } from './access/snapshot.ts';
import type { GatewayMetrics } from './metrics.ts';
import type { Recordings } from './recording/recordings.ts';
import { type SessionAdmission, sessionAdmission } from './session/admit-session.ts';
import { SessionCloser } from './session/session-closer.ts';
import { type SessionLimits, SessionTable } from './session/session-table.ts';
import { watchSessions } from './session/watch-sessions.ts';

export interface ControlOptions {
  readonly version: string;
  /** TCP ports that clients come to, by protocol. */
  readonly ports: Readonly<Record<string, number>>;
  /** Exists, 0700. */
  readonly stateDir: string;
  readonly recordings: Recordings;
  readonly limits: SessionLimits;
  readonly api: () => GatewayApi;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: GatewayMetrics;
  /** Told each snapshot as it came. */
  onSnapshot?(message: Snapshot): void;
}

/** What a gateway has once, however many processes serve its clients. */
export interface GatewayControl {
  readonly admission: SessionAdmission;
  readonly snapshot: WatchedSource<GatewaySnapshot>;
  readonly spool: EventSpool;
  readonly audit: GatewayAudit;
  /** Aborts when `stop` begins. */
  readonly signal: AbortSignal;
  /** `true`, or why no session can be opened. */
  ready(): true | string;
  /** Leaves the stream for one on the channel that `api` gives now. */
  reconnect(): void;
  /** Ends every session and lets no other in. */
  endSessions(reason: string): void;
  /**
   * Ends every session, waits for their records and the server's knowledge of them, at most 3 s, and
   * stops. Idempotent.
   */
  stop(reason: string): Promise<void>;
}

const STOP_MS = 3000;
const READY_SILENCE_MS = 5000;

/** @throws Fault STATE_UNUSABLE */
export function startControl(options: ControlOptions): GatewayControl {
  const { version, ports, stateDir, recordings, api, clock, log, metrics, onSnapshot } = options;
  const spool = EventSpool.open({ directory: join(stateDir, 'events'), clock });
  const audit = new GatewayAudit(spool, { clock, log });
  const heartbeats = new Heartbeats(clock);
  const snapshot = new Watched(EMPTY_SNAPSHOT);
  const table = new SessionTable(options.limits);
  const closer = new SessionCloser({ api, clock, log });
  const stream = new ServerStream({
    ...{ version, ports, api, heartbeats, snapshot, sessions: table },
    ...{ spool, recordings, clock, log, metrics },
    ...(onSnapshot && { onSnapshot }),
  });
  const stopping = new AbortController();
  // Every call on behalf of a session listens to it for as long as it runs.
  setMaxListeners(0, stopping.signal);
  const ended = new AbortController();
  const running = [
    stream.run(ended.signal),
    watchSessions({ table, heartbeats, audit, clock }, ended.signal),
  ];
  const admission = sessionAdmission({
    ...{ api, snapshot, heartbeats, table, closer, audit, clock },
    signal: stopping.signal,
  });

  function endSessions(reason: string): void {
    stopping.abort();
    table.close(new Fault('UNAVAILABLE', reason));
  }

  async function stopNow(reason: string): Promise<void> {
    endSessions(reason);
    const limit = new AbortController();
    const giveUp = () => limit.abort();
    const timer = clock.wait(STOP_MS, limit.signal).then(giveUp, giveUp);
    await untilAborted(table.empty(), limit.signal);
    await closer.drain(limit.signal);
    audit.flush();
    giveUp();
    ended.abort();
    await Promise.all([timer, ...running]);
    spool[Symbol.dispose]();
  }

  let stopped: Promise<void> | undefined;
  return {
    ...{ admission, snapshot, spool, audit },
    signal: stopping.signal,
    ready: () => readiness(snapshot.value, heartbeats),
    reconnect: () => stream.reconnect(),
    endSessions,
    stop: (reason) => {
      stopped ??= stopNow(reason);
      return stopped;
    },
  };
}

function readiness(snapshot: GatewaySnapshot, heartbeats: Heartbeats): true | string {
  if (snapshot === EMPTY_SNAPSHOT) return 'no snapshot from the server yet';
  const silent = heartbeats.silentMs();
  if (silent > READY_SILENCE_MS) return 'no heartbeat from the server';
  try {
    heartbeats.requireTrueTime();
    return true;
  } catch (error) {
    return Fault.from(error).message;
  }
}

async function untilAborted(done: Promise<void>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
    void done.then(resolve, resolve);
  });
}
