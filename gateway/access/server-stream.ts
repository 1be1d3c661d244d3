/**
 * The one stream between this gateway and its server. It is opened anew whenever it breaks, is silent or
 * the gateway's SVID has rotated; sessions live on meanwhile, by their backend's `on_stale`.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import { timestampDate } from '@bufbuild/protobuf/wkt';
import type {
  ConnectRequestSchema,
  ConnectResponse,
  Heartbeat,
  ReadRecording,
  Revocation,
  Snapshot,
} from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { Backoff } from '../../runtime/backoff.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Watched } from '../../runtime/watched.ts';
import type { GatewayMetrics } from '../metrics.ts';
import type { EventSpool } from './event-spool.ts';
import type { GatewayApi } from './gateway-api.ts';
import type { Heartbeats } from './heartbeats.ts';
import { Outbox } from './outbox.ts';
import { changedGrants, type GatewaySnapshot, readSnapshot } from './snapshot.ts';

type Up = MessageInitShape<typeof ConnectRequestSchema>;

/** What the stream does to sessions: `SessionTable`. */
export interface StreamedSessions {
  readonly ids: string[];
  helloSent(): void;
  apply(revocation: Revocation): number;
  endGrant(grant: string): number;
}

export interface ServerStreamOptions {
  readonly version: string;
  /** TCP ports by protocol. */
  readonly ports: Readonly<Record<string, number>>;
  readonly api: () => GatewayApi;
  readonly heartbeats: Heartbeats;
  readonly snapshot: Watched<GatewaySnapshot>;
  readonly sessions: StreamedSessions;
  readonly spool: EventSpool;
  readonly recordings: {
    readonly publicKey: Uint8Array;
    read(sessionId: string): AsyncIterable<Uint8Array>;
  };
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: GatewayMetrics;
  /** Told each snapshot as it came, once the sessions that it ends have been. */
  onSnapshot?(message: Snapshot): void;
}

/** Short, for what was revoked while there was no stream waits for it. */
const RETRY = { firstMs: 50, maximumMs: 250 } as const;
const LEASE_MS = 1000;
/** Ten heartbeats are missing: the stream is dead, whatever TCP says. */
const SILENCE_MS = 5000;
const UP_CAPACITY = 16;
const READINGS_AT_ONCE = 4;
const EVENTS_AT_ONCE = 100;

export class ServerStream {
  readonly #options: ServerStreamOptions;
  readonly #backoff = new Backoff(RETRY);
  #connection = new AbortController();
  #heardMs = 0;
  #readings = 0;
  /** Whether it has broken since the last snapshot. */
  #isBroken = false;
  /** The last event that went up this stream. */
  #sent = 0n;

  constructor(options: ServerStreamOptions) {
    this.#options = options;
  }

  /** Keeps the stream open until `signal` aborts. Does not reject. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    while (!signal.aborted) {
      try {
        await this.#connect(signal);
      } catch (error) {
        if (!signal.aborted) {
          // Told once: of a server that is away it would be said several times a second.
          const level = this.#isBroken ? 'debug' : 'warn';
          log[level]({ err: error }, 'stream to the server broke');
        }
        this.#isBroken = true;
      }
      await clock.wait(this.#backoff.next(), signal).catch(() => undefined);
    }
  }

  /** Leaves the stream for a new one, e.g. because there is a new channel. */
  reconnect(): void {
    this.#backoff.reset();
    this.#connection.abort();
  }

  async #connect(signal: AbortSignal): Promise<void> {
    const connection = new AbortController();
    this.#connection = connection;
    const abort = () => connection.abort();
    signal.addEventListener('abort', abort, { once: true });
    const outbox = new Outbox<Up>(UP_CAPACITY);
    const tasks = [this.#sendLeases(outbox, connection), this.#sendEvents(outbox, connection)];
    try {
      this.#options.metrics.serverStreams.inc();
      this.#heardMs = this.#options.clock.monotonicMs();
      const requests = this.#requests(outbox);
      const responses = this.#options.api().connect(requests, { signal: connection.signal });
      for await (const response of responses) this.#receive(response, outbox);
    } finally {
      signal.removeEventListener('abort', abort);
      abort();
      outbox.close();
      await Promise.allSettled(tasks);
    }
  }

  /** The Hello is made when it goes out, so that it lists the sessions of that very moment. */
  async *#requests(outbox: Outbox<Up>): AsyncGenerator<Up> {
    const { version, ports, recordings, heartbeats, sessions } = this.#options;
    const uptimeMilliseconds = BigInt(Math.floor(process.uptime() * 1000));
    const sessionIds = sessions.ids;
    sessions.helloSent();
    const { revocationSeq } = heartbeats;
    const { publicKey: recordingKey } = recordings;
    const known = { version, ports, recordingKey, revocationSeq, sessionIds, uptimeMilliseconds };
    yield { message: { case: 'hello', value: known } };
    yield* outbox;
  }

  async #sendLeases(outbox: Outbox<Up>, connection: AbortController): Promise<void> {
    const { clock, heartbeats, sessions, log } = this.#options;
    const { signal } = connection;
    while (!signal.aborted) {
      await clock.wait(LEASE_MS, signal).catch(() => undefined);
      if (signal.aborted) return;
      if (clock.monotonicMs() - this.#heardMs > SILENCE_MS) {
        log.warn('server is silent: connecting anew');
        connection.abort();
        return;
      }
      const value = { revocationSeq: heartbeats.revocationSeq, sessionIds: sessions.ids };
      await outbox.push({ message: { case: 'lease', value } });
    }
  }

  /** Everything that the server may lack, then each new event. */
  async #sendEvents(outbox: Outbox<Up>, connection: AbortController): Promise<void> {
    const { spool, log } = this.#options;
    this.#sent = 0n;
    try {
      for await (const _ of spool.changes(connection.signal)) {
        for (;;) {
          const events = spool.after(this.#sent, EVENTS_AT_ONCE);
          const last = events.at(-1);
          if (last === undefined) break;
          const value = { events: [...events] };
          if (!(await outbox.push({ message: { case: 'events', value } }))) return;
          this.#sent = last.writerSeq;
        }
      }
    } catch (error) {
      log.error({ err: error }, 'audit events cannot be sent');
      connection.abort();
    }
  }

  #receive({ message }: ConnectResponse, outbox: Outbox<Up>): void {
    switch (message.case) {
      case 'snapshot':
        this.#takeSnapshot(message.value);
        break;
      case 'revocation':
        this.#revoke(message.value);
        break;
      case 'heartbeat':
        this.#beat(message.value);
        break;
      case 'eventsAccepted':
        this.#eventsAccepted(message.value.writerSeq);
        break;
      case 'readRecording':
        void this.#sendRecording(message.value, outbox);
        break;
      default:
      // A newer server may say more; what must not go unheard comes as a revocation.
    }
  }

  #beat({ serverTime, revocationSeq }: Heartbeat): void {
    if (serverTime === undefined) throw new Fault('PROTOCOL_VIOLATION', 'heartbeat has no time');
    this.#heardMs = this.#options.clock.monotonicMs();
    this.#options.heartbeats.beat(timestampDate(serverTime), revocationSeq);
  }

  #takeSnapshot(message: Snapshot): void {
    const { snapshot, sessions, log } = this.#options;
    const next = readSnapshot(message);
    for (const grant of changedGrants(snapshot.value, next)) sessions.endGrant(grant);
    snapshot.set(next);
    this.#options.onSnapshot?.(message);
    this.#backoff.reset();
    this.#isBroken = false;
    log.info({ revision: String(next.revision), grants: next.grants.size }, 'snapshot taken');
  }

  #revoke(revocation: Revocation): void {
    const { heartbeats, sessions, log, metrics } = this.#options;
    const ended = sessions.apply(revocation);
    heartbeats.applied(revocation.seq);
    metrics.revocationsApplied.inc();
    if (ended > 0)
      log.info({ cause: revocation.cause, sessions: ended }, 'revocation ended sessions');
  }

  #eventsAccepted(seq: bigint): void {
    const { spool, log, metrics } = this.#options;
    if (spool.accepted(seq)) {
      log.warn('event spool is younger than the server knows: events have new numbers');
      this.#sent = seq;
    }
    metrics.pendingEvents.set(spool.pendingCount);
  }

  async #sendRecording(request: ReadRecording, outbox: Outbox<Up>): Promise<void> {
    const { requestId, sessionId } = request;
    const push = (value: { data?: Uint8Array; last?: boolean; error?: string }) =>
      outbox.push({ message: { case: 'recording', value: { requestId, ...value } } });
    if (this.#readings >= READINGS_AT_ONCE) {
      await push({ last: true, error: 'too many recordings are being read' });
      return;
    }
    this.#readings += 1;
    try {
      for await (const data of this.#options.recordings.read(sessionId)) {
        if (!(await push({ data }))) return;
      }
      await push({ last: true });
    } catch (error) {
      const fault = Fault.from(error);
      if (fault.code === 'INTERNAL')
        this.#options.log.error({ err: error }, 'recording unreadable');
      await push({ last: true, error: fault.message });
    } finally {
      this.#readings -= 1;
    }
  }
}
