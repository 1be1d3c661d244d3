/**
 * The server's end of one gateway's stream. What goes down is made when the gateway takes it, so that a
 * slow one gets the newest snapshot and heartbeat and never a queue of old ones; a gateway that takes
 * nothing for 10 s is cut.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type {
  ConnectRequest,
  ConnectResponseSchema,
  Events,
} from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { Watched, type WatchedSource } from '../../runtime/watched.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { Datastore } from '../plugins/datastore/datastore.ts';
import { SharedTransactions } from '../plugins/datastore/shared-transactions.ts';
import { gatewaySnapshot, type SshAuthorities } from './gateway-snapshot.ts';
import type { GatewayRecord } from './gateways.ts';
import { RecordingReads } from './recording-reads.ts';
import type { Resources } from './resources.ts';
import type { Revocations } from './revocations.ts';
import type { SessionLeases } from './session-leases.ts';
import type { Sessions } from './sessions.ts';

/** A message down the stream. */
export type ConnectResponseInit = MessageInitShape<typeof ConnectResponseSchema>;

export interface GatewayLinkOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly resources: Resources;
  readonly revocations: Revocations;
  readonly leases: SessionLeases;
  readonly sessions: Sessions;
  readonly sshAuthorities: WatchedSource<SshAuthorities>;
  /** Destroys a gateway's connections: what is stuck in a full socket cannot be ended politely. */
  disconnect(gateway: string): void;
}

const HEARTBEAT_MS = 500;
const STUCK_MS = 10_000;
const MAXIMUM_EVENTS = 1000;

/** One stream, from its hello to its end. */
export class GatewayLink {
  readonly #options: GatewayLinkOptions;
  readonly #gateway: GatewayRecord;
  readonly #controller = new AbortController();
  /** Set when there is something to send. */
  readonly #work = new Watched(Symbol('begin'));
  readonly #asked: { requestId: bigint; sessionId: string }[] = [];
  readonly #reads: RecordingReads;
  #end: Fault | undefined;
  #sentRevision: bigint | undefined;
  #sentSshAuthorities: SshAuthorities | undefined;
  #sentSeq: bigint;
  #acceptedSeq: bigint | undefined;
  #heartbeatDue = true;
  /** When the message was offered that has not been taken yet. */
  #offeredMs: number | undefined;

  /** @param revocationSeq the last revocation that the gateway has */
  constructor(options: GatewayLinkOptions, gateway: GatewayRecord, revocationSeq: bigint) {
    this.#options = options;
    this.#gateway = gateway;
    this.#sentSeq = revocationSeq;
    this.#reads = new RecordingReads({
      clock: options.clock,
      ask: (request) => {
        this.#asked.push(request);
        this.#wake();
      },
    });
  }

  /** The bytes of a session's record files in order; see `RecordingReads.read`. */
  readRecording(sessionId: string, signal: AbortSignal): AsyncIterable<Uint8Array> {
    return this.#reads.read(sessionId, signal);
  }

  /** Ends the stream; the first reason is the one the gateway learns. */
  end(fault: Fault): void {
    this.#end ??= fault;
    this.#controller.abort();
  }

  /** What goes down, until the stream ends; takes what comes up after the hello. */
  async *serve(
    requests: AsyncIterator<ConnectRequest>,
    signal: AbortSignal,
  ): AsyncGenerator<ConnectResponseInit> {
    const stop = () => this.#controller.abort();
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    const { resources, revocations, sshAuthorities } = this.#options;
    this.#background(this.#receive(requests));
    this.#background(this.#tick());
    this.#background(this.#follow(resources.revision));
    this.#background(this.#follow(revocations.head));
    this.#background(this.#follow(sshAuthorities));
    try {
      for await (const _ of this.#work.values(this.#controller.signal)) {
        for await (const response of this.#due()) {
          this.#offeredMs = this.#options.clock.monotonicMs();
          yield response;
          this.#offeredMs = undefined;
        }
      }
      if (this.#end !== undefined) throw this.#end;
    } finally {
      signal.removeEventListener('abort', stop);
      stop();
      this.#reads.end();
    }
  }

  async *#due(): AsyncGenerator<ConnectResponseInit> {
    const { store, resources, revocations, clock } = this.#options;
    const revision = resources.revision.value;
    const sshAuthorities = this.#options.sshAuthorities.value;
    if (this.#sentRevision !== revision || this.#sentSshAuthorities !== sshAuthorities) {
      this.#sentRevision = revision;
      this.#sentSshAuthorities = sshAuthorities;
      const value = await gatewaySnapshot(store, this.#gateway, { revision, sshAuthorities });
      yield { message: { case: 'snapshot', value } };
    }
    while (this.#sentSeq < revocations.head.value) {
      const batch = await revocations.since(this.#sentSeq);
      for (const value of batch) {
        this.#sentSeq = value.seq;
        yield { message: { case: 'revocation', value } };
      }
      if (batch.length === 0) throw new Error('revocations are missing from the store');
    }
    if (this.#acceptedSeq !== undefined) {
      const value = { writerSeq: this.#acceptedSeq };
      this.#acceptedSeq = undefined;
      yield { message: { case: 'eventsAccepted', value } };
    }
    for (const value of this.#asked.splice(0)) {
      yield { message: { case: 'readRecording', value } };
    }
    if (this.#heartbeatDue) {
      this.#heartbeatDue = false;
      const serverTime = timestampFromDate(clock.now());
      const value = { serverTime, revocationSeq: revocations.head.value };
      yield { message: { case: 'heartbeat', value } };
    }
  }

  async #receive(requests: AsyncIterator<ConnectRequest>): Promise<void> {
    for (;;) {
      const next = await requests.next();
      if (next.done === true || this.#controller.signal.aborted) break;
      await this.#take(next.value);
    }
    this.#controller.abort();
  }

  async #take({ message }: ConnectRequest): Promise<void> {
    switch (message.case) {
      case 'lease':
        this.#options.leases.renew({ gateway: this.#gateway.id, ...message.value });
        return;
      case 'events':
        return this.#append(message.value);
      case 'recording':
        this.#reads.deliver(message.value);
        return;
      default:
        throw new Fault('PROTOCOL_VIOLATION', 'only the first message is a hello');
    }
  }

  async #append({ events }: Events): Promise<void> {
    if (events.length > MAXIMUM_EVENTS) {
      throw new Fault('PROTOCOL_VIOLATION', `more than ${MAXIMUM_EVENTS} events in one message`);
    }
    const { store, audit } = this.#options;
    this.#acceptedSeq = await SharedTransactions.of(store).run((tx) =>
      audit.appendFrom(tx, this.#gateway.id, events),
    );
    this.#wake();
  }

  async #tick(): Promise<void> {
    const { clock, disconnect } = this.#options;
    for (;;) {
      await clock.wait(HEARTBEAT_MS, this.#controller.signal);
      this.#heartbeatDue = true;
      this.#wake();
      if (this.#offeredMs !== undefined && clock.monotonicMs() - this.#offeredMs > STUCK_MS) {
        this.end(new Fault('UNAVAILABLE', 'the gateway does not read its stream'));
        disconnect(this.#gateway.id);
      }
    }
  }

  async #follow(source: WatchedSource<unknown>): Promise<void> {
    for await (const _ of source.values(this.#controller.signal)) this.#wake();
  }

  #wake(): void {
    this.#work.set(Symbol('work'));
  }

  /** Lets a part run beside the stream; what it throws ends the stream. */
  #background(part: Promise<void>): void {
    part.catch((error: unknown) => {
      if (!this.#controller.signal.aborted) this.end(Fault.from(error));
    });
  }
}
