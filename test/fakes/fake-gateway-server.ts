import { once } from 'node:events';
import net from 'node:net';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { Outbox } from '../../gateway/access/outbox.ts';
import type { Event } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import {
  type CloseSessionRequest,
  type ConnectRequest,
  type ConnectResponseSchema,
  GatewayService,
  type Hello,
  type Lease,
  type OpenSessionRequest,
  type OpenSessionResponseSchema,
  type RecordingChunk,
  type RevocationSchema,
  type Snapshot,
  SnapshotSchema,
  type SubjectSchema,
} from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { RpcServer } from '../../runtime/grpc-server.ts';
import { createLogger } from '../../runtime/log.ts';

type Down = MessageInitShape<typeof ConnectResponseSchema>;
type SubjectInit = NonNullable<MessageInitShape<typeof SubjectSchema>['subject']>;
type OpenSessionAnswer = MessageInitShape<typeof OpenSessionResponseSchema>;

/** A server as a gateway sees it, over a Unix socket; tests say when it speaks and what it answers. */
export class FakeGatewayServer implements AsyncDisposable {
  readonly hellos: Hello[] = [];
  readonly leases: Lease[] = [];
  readonly events: Event[] = [];
  readonly chunks: RecordingChunk[] = [];
  readonly opened: OpenSessionRequest[] = [];
  readonly closed: CloseSessionRequest[] = [];
  readonly revocations: MessageInitShape<typeof RevocationSchema>[] = [];
  snapshot: Snapshot = create(SnapshotSchema, { revision: 1n });
  /** Whether a new stream gets a heartbeat behind its snapshot. */
  isBeating = true;
  /** Whether events are accepted. */
  isAccepting = true;
  answer: (request: OpenSessionRequest) => Promise<OpenSessionAnswer>;
  onClose: () => void = () => {};
  readonly path: string;
  readonly #clock: Clock;
  readonly #listener: net.Server;
  readonly #rpc: RpcServer<string, string>;
  readonly #streams = new Set<Outbox<Down>>();
  #sessions = 0;

  private constructor(path: string, clock: Clock) {
    this.path = path;
    this.#clock = clock;
    this.answer = (request) => this.openSession(request);
    this.#rpc = new RpcServer<string, string>({
      guard: () => 'gateway',
      log: createLogger({ process: 'server', level: 'silent' }),
    });
    this.#rpc.add(GatewayService, {
      connect: (requests) => this.#connect(requests),
      openSession: (request) => {
        this.opened.push(request);
        return this.answer(request);
      },
      closeSession: async (request) => {
        this.onClose();
        this.closed.push(request);
        return {};
      },
    });
    this.#listener = net.createServer((socket) => this.inject(socket));
  }

  /** Serves one more connection, accepted elsewhere. */
  inject(socket: net.Socket): void {
    this.#rpc.inject(socket, 'gateway');
  }

  static async start(path: string, clock: Clock): Promise<FakeGatewayServer> {
    const server = new FakeGatewayServer(path, clock);
    await once(server.#listener.listen(path), 'listening');
    return server;
  }

  /** The server's usual answer: an hour under the grant that was asked for. */
  async openSession(request: OpenSessionRequest): Promise<OpenSessionAnswer> {
    const grant = this.snapshot.grants.find(({ name }) => name === request.grant);
    this.#sessions += 1;
    return {
      sessionId: `s_${this.#sessions}`,
      ...(grant === undefined ? {} : { grant }),
      expiresAt: timestampFromDate(new Date(this.#clock.now().getTime() + 3_600_000)),
      serverTime: timestampFromDate(this.#clock.now()),
      spiffeId: grant?.identity ?? '',
      svidSerial: '0a0b',
      entryId: 'entry-1',
      agentId: 'spiffe://example.org/spire/agent/join_token/n1',
      owner: 'shop-team',
      purpose: 'tests',
      environment: 'test',
    };
  }

  send(message: NonNullable<Down['message']>): void {
    for (const stream of this.#streams) void stream.push({ message });
  }

  heartbeat(options: { revocationSeq?: bigint; serverTime?: Date } = {}): void {
    this.send(this.#heartbeat(options));
  }

  /** Appends a revocation and tells the gateway. */
  revoke(subject: SubjectInit, cause: string, reason: string): bigint {
    const seq = BigInt(this.revocations.length + 1);
    this.revocations.push({ seq, subject: { subject }, cause, reason });
    for (const value of this.revocations.slice(-1)) this.send({ case: 'revocation', value });
    return seq;
  }

  sendSnapshot(): void {
    this.send({ case: 'snapshot', value: this.snapshot });
  }

  /** Ends all streams; the gateway will come again. */
  dropStreams(): void {
    for (const stream of this.#streams) stream.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dropStreams();
    this.#listener.close();
    await this.#rpc[Symbol.asyncDispose]();
  }

  async *#connect(requests: AsyncIterable<ConnectRequest>): AsyncGenerator<Down> {
    const outbox = new Outbox<Down>(1000);
    const incoming = requests[Symbol.asyncIterator]();
    const first = await incoming.next();
    if (first.done || first.value.message.case !== 'hello') return;
    const hello = first.value.message.value;
    this.hellos.push(hello);
    this.#streams.add(outbox);
    void this.#listen(incoming, outbox);
    try {
      yield { message: { case: 'snapshot', value: this.snapshot } };
      for (const value of this.revocations.slice(Number(hello.revocationSeq))) {
        yield { message: { case: 'revocation', value } };
      }
      if (this.isBeating) yield { message: this.#heartbeat({}) };
      yield* outbox;
    } finally {
      this.#streams.delete(outbox);
    }
  }

  async #listen(incoming: AsyncIterator<ConnectRequest>, outbox: Outbox<Down>): Promise<void> {
    try {
      for (;;) {
        const next = await incoming.next();
        if (next.done) break;
        this.#take(next.value);
      }
    } catch {
      // The gateway has left the stream.
    }
    outbox.close();
  }

  #take({ message }: ConnectRequest): void {
    if (message.case === 'lease') this.leases.push(message.value);
    if (message.case === 'recording') this.chunks.push(message.value);
    if (message.case !== 'events') return;
    const known = new Set(this.events.map(({ writerSeq }) => writerSeq));
    this.events.push(...message.value.events.filter(({ writerSeq }) => !known.has(writerSeq)));
    const writerSeq = this.events.at(-1)?.writerSeq ?? 0n;
    if (this.isAccepting) this.send({ case: 'eventsAccepted', value: { writerSeq } });
  }

  #heartbeat(options: { revocationSeq?: bigint; serverTime?: Date }): NonNullable<Down['message']> {
    const { revocationSeq = BigInt(this.revocations.length), serverTime = this.#clock.now() } =
      options;
    const value = { revocationSeq, serverTime: timestampFromDate(serverTime) };
    return { case: 'heartbeat', value };
  }
}
