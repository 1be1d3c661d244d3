import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { type GatewayCore, startCore } from '../../gateway/core.ts';
import type { HostPort } from '../../gateway/listener/listen.ts';
import { listenTcp } from '../../gateway/listener/listen-tcp.ts';
import { gatewayMetrics } from '../../gateway/metrics.ts';
import type { TcpProtocol } from '../../gateway/plugins/backend/backend.ts';
import { parseTrustDomain, SpiffeId } from '../../identity/spiffe-id.ts';
import { GatewayService, SnapshotSchema } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { BackendSchema, GrantSchema } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { Closers } from '../../runtime/closers.ts';
import { RpcChannel } from '../../runtime/grpc-client.ts';
import { createLogger } from '../../runtime/log.ts';
import { MetricsRegistry } from '../../runtime/metrics.ts';
import { FakeGatewayServer } from './fake-gateway-server.ts';
import { until } from './gateway-under-test.ts';

const GATEWAY = 'spiffe://example.org/writ/gateway/gw-1';
const DAY_MS = 86_400_000;

export interface TcpGatewayOptions {
  readonly backends: readonly MessageInitShape<typeof BackendSchema>[];
  /** Each lives a day unless it says otherwise. */
  readonly grants: readonly MessageInitShape<typeof GrantSchema>[];
}

/** A gateway with one protocol on a port of 127.0.0.1, on the true clock, and a server of its own. */
export class TcpGateway implements AsyncDisposable {
  readonly server: FakeGatewayServer;
  readonly core: GatewayCore;
  readonly address: HostPort;
  readonly stateDir: string;
  readonly #closers: Closers;

  private constructor(
    parts: Pick<TcpGateway, 'server' | 'core' | 'address' | 'stateDir'>,
    closers: Closers,
  ) {
    this.server = parts.server;
    this.core = parts.core;
    this.address = parts.address;
    this.stateDir = parts.stateDir;
    this.#closers = closers;
  }

  /** Ready when it resolves: the first snapshot names the server's SSH authorities. */
  static async start(protocol: TcpProtocol, options: TcpGatewayOptions): Promise<TcpGateway> {
    const closers = new Closers();
    const stateDir = await mkdtemp(join(tmpdir(), 'writ-gateway-'));
    closers.defer(() => rm(stateDir, { recursive: true }));
    const server = await FakeGatewayServer.start(join(stateDir, 's.sock'), systemClock);
    closers.defer(() => server[Symbol.asyncDispose]());
    server.snapshot = snapshotOf(server, options);
    const channel = RpcChannel.unix(server.path);
    closers.defer(() => channel[Symbol.asyncDispose]());
    const metrics = gatewayMetrics(new MetricsRegistry());
    const log = createLogger({ process: 'gateway', level: process.env.TEST_LOG ?? 'silent' });
    const api = channel.client(GatewayService);
    const core = await startCore({
      ...{ version: '0', ports: {}, stateDir, clock: systemClock, api: () => api, log, metrics },
      limits: { total: 50, perIdentity: 20 },
    });
    closers.defer(() => core.stop('the test is over'));
    const beating = setInterval(() => server.heartbeat(), 500);
    closers.defer(() => clearInterval(beating));
    await until(() => core.ready() === true);
    deferDisposal(closers, protocol);
    await protocol.start({
      jwtSvid: () => Promise.reject(new Error('no JWT-SVID is asked for here')),
      gatewayId: SpiffeId.parse(GATEWAY),
      trustDomain: parseTrustDomain('example.org'),
      ...{ snapshot: core.snapshot, api: core.api, log, clock: systemClock, metrics, stateDir },
      signal: core.signal,
    });
    const listening = await listenTcp(
      protocol,
      { host: '127.0.0.1', port: 0 },
      {
        ...{ desk: core.desk, clock: systemClock, log },
        onRefused: (refusal) => core.audit.connectionRefused(refusal),
        onDenied: (request, reason) => core.audit.sessionDenied(request, reason),
      },
    );
    deferDisposal(closers, listening);
    const { address } = listening;
    return new TcpGateway({ server, core, address, stateDir }, closers);
  }

  /** `type reason` of the events that the server has. */
  events(): string[] {
    return this.server.events.map(({ type, reason }) => `${type} ${reason}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#closers[Symbol.asyncDispose]();
  }
}

function snapshotOf(server: FakeGatewayServer, options: TcpGatewayOptions) {
  const expiresAt = timestampFromDate(new Date(Date.now() + DAY_MS));
  return create(SnapshotSchema, {
    revision: 1n,
    backends: [...options.backends],
    grants: options.grants.map((grant) => ({ expiresAt, ...grant })),
    sshAuthorities: server.ssh.keys,
  });
}

function deferDisposal(closers: Closers, what: AsyncDisposable): void {
  closers.defer(async () => {
    await what[Symbol.asyncDispose]();
  });
}
