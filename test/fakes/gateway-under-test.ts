import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TLSSocket } from 'node:tls';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { type GatewayCore, startCore } from '../../gateway/core.ts';
import { serveConnection } from '../../gateway/listener/serve-connection.ts';
import { gatewayMetrics } from '../../gateway/metrics.ts';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { GatewayService, SnapshotSchema } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { type GrantSchema, OnStale } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Closers } from '../../runtime/closers.ts';
import { RpcChannel } from '../../runtime/grpc-client.ts';
import { createLogger } from '../../runtime/log.ts';
import { MetricsRegistry } from '../../runtime/metrics.ts';
import { FakeClock } from './fake-clock.ts';
import { FakeGatewayServer } from './fake-gateway-server.ts';
import { lineEcho } from './line-echo.ts';

/** Who every client of a `GatewayUnderTest` is. */
export const WEB = 'spiffe://example.org/web';
export const WEB_AGENT = 'spiffe://example.org/spire/agent/join_token/n1';

const DAY_MS = 86_400_000;
const LOOKS = 1000;

/** Waits for what happens over real sockets while a fake clock stands still. */
export async function until(isTrue: () => boolean): Promise<void> {
  for (let look = 0; look < LOOKS; look += 1) {
    if (isTrue()) return;
    await sleep(5);
  }
  throw new Error('it never came true');
}

/** A client of the line echo. */
export class EchoClient {
  readonly lines: string[] = [];
  readonly #socket: net.Socket;
  #isClosed = false;

  constructor(socket: net.Socket) {
    this.#socket = socket;
    createInterface({ input: socket }).on('line', (line) => this.lines.push(line));
    socket.on('error', () => {});
    socket.once('close', () => {
      this.#isClosed = true;
    });
  }

  say(line: string): void {
    this.#socket.write(`${line}\n`);
  }

  /** That line of what came, from 0, once it is there. */
  async line(number: number): Promise<string> {
    await until(() => this.lines.length > number);
    return this.lines[number] ?? '';
  }

  /** All that came, once the gateway has closed the connection. */
  async closed(): Promise<string[]> {
    await until(() => this.#isClosed);
    return this.lines;
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** A gateway's core on a fake clock, with a server of its own that speaks when told, and the line echo. */
export class GatewayUnderTest implements AsyncDisposable {
  readonly clock: FakeClock;
  readonly server: FakeGatewayServer;
  readonly core: GatewayCore;
  readonly stateDir: string;
  /** Of the next client's SVID. */
  notAfter: Date;
  readonly #closers: Closers;
  readonly #listener: net.Server;
  readonly #log = createLogger({ process: 'gateway', level: process.env.TEST_LOG ?? 'silent' });

  private constructor(parts: {
    clock: FakeClock;
    server: FakeGatewayServer;
    core: GatewayCore;
    stateDir: string;
    closers: Closers;
  }) {
    this.clock = parts.clock;
    this.server = parts.server;
    this.core = parts.core;
    this.stateDir = parts.stateDir;
    this.#closers = parts.closers;
    this.notAfter = new Date(parts.clock.now().getTime() + DAY_MS);
    this.#listener = net.createServer((socket) => void this.#serve(socket));
  }

  /** Ready when it resolves: one grant `read` on `orders-db`. */
  static async start(): Promise<GatewayUnderTest> {
    const closers = new Closers();
    const clock = new FakeClock();
    const stateDir = await mkdtemp(join(tmpdir(), 'writ-gateway-'));
    closers.defer(() => rm(stateDir, { recursive: true }));
    const server = await FakeGatewayServer.start(join(stateDir, 's.sock'), clock);
    closers.defer(() => server[Symbol.asyncDispose]());
    const channel = RpcChannel.unix(server.path);
    closers.defer(() => channel[Symbol.asyncDispose]());
    server.snapshot = snapshotWith(clock, [{ name: 'read' }]);
    const api = channel.client(GatewayService);
    const core = await startCore({
      ...{ version: '0', ports: { postgres: 6432 }, stateDir, clock, api: () => api },
      limits: { total: 10, perIdentity: 3 },
      log: createLogger({ process: 'gateway', level: process.env.TEST_LOG ?? 'silent' }),
      metrics: gatewayMetrics(new MetricsRegistry()),
    });
    const gateway = new GatewayUnderTest({ clock, server, core, stateDir, closers });
    closers.defer(() => gateway.stop('the test is over'));
    await once(gateway.#listener.listen(0, '127.0.0.1'), 'listening');
    closers.defer(() => {
      gateway.#listener.close();
    });
    await until(() => core.ready() === true);
    return gateway;
  }

  /** As `until`, while both clocks run. */
  async untilInTime(isTrue: () => boolean): Promise<void> {
    for (let look = 0; look < LOOKS && !isTrue(); look += 1) {
      await sleep(10);
      await this.clock.advance(50);
    }
    if (!isTrue()) throw new Error('it never came true');
  }

  async stop(reason: string): Promise<void> {
    let isStopped = false;
    const stopping = this.core.stop(reason).then(() => {
      isStopped = true;
    });
    await this.untilInTime(() => isStopped);
    await stopping;
  }

  /** Has the server send a snapshot of these grants, and waits until it is taken. */
  async grant(...grants: MessageInitShape<typeof GrantSchema>[]): Promise<void> {
    const revision = this.core.snapshot.value.revision + 1n;
    this.server.snapshot = { ...snapshotWith(this.clock, grants), revision };
    this.server.sendSnapshot();
    await until(() => this.core.snapshot.value.revision === revision);
  }

  /** @param wish `backend` or `backend grant` */
  connect(wish = 'orders-db'): EchoClient {
    const { port } = this.#listener.address() as net.AddressInfo;
    const client = new EchoClient(net.connect(port, '127.0.0.1'));
    this.#closers.defer(() => client.close());
    client.say(wish);
    return client;
  }

  async open(wish?: string): Promise<{ client: EchoClient; id: string }> {
    const client = this.connect(wish);
    const line = await client.line(0);
    if (!line.startsWith('open ')) throw new Error(line);
    return { client, id: line.slice('open '.length) };
  }

  /** What a client is told that gets no session. */
  async refusal(wish?: string): Promise<string> {
    return (await this.connect(wish).closed())[0] ?? '';
  }

  /** Types of the events that the server has. */
  eventTypes(): string[] {
    return this.server.events.map(({ type }) => type);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#closers[Symbol.asyncDispose]();
  }

  async #serve(socket: net.Socket): Promise<void> {
    socket.on('error', () => {});
    const peer = {
      id: SpiffeId.parse(WEB),
      serial: '0a0b',
      notBefore: new Date(0),
      notAfter: this.notAfter,
      chain: [new Uint8Array([1, 2, 3])],
      fingerprint: 'ff',
    };
    const connection = {
      ...{ socket: socket as TLSSocket, peer, address: '192.0.2.7:4711', direct: true },
      alpn: false as const,
    };
    const { desk, signal } = this.core;
    await serveConnection(
      lineEcho(),
      connection,
      { desk, clock: this.clock, log: this.#log },
      signal,
    );
  }
}

function snapshotWith(clock: FakeClock, grants: MessageInitShape<typeof GrantSchema>[]) {
  const expiresAt = timestampFromDate(new Date(clock.now().getTime() + DAY_MS));
  return create(SnapshotSchema, {
    revision: 1n,
    backends: [
      { name: 'orders-db', onStale: OnStale.STANDARD },
      { name: 'vault-db', onStale: OnStale.STRICT },
      {
        name: 'shop',
        onStale: OnStale.STANDARD,
        type: { case: 'postgres', value: { database: 's', databases: { billing: 'b' } } },
      },
    ],
    grants: grants.map((grant) => ({
      ...{ identity: WEB, backend: 'orders-db', expiresAt },
      ...grant,
    })),
  });
}
