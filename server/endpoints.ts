/** The server's two doors: the TLS port for agents and gateways, the admin socket for operators. */
import { join } from 'node:path';
import type { Bundle } from '../identity/bundle.ts';
import { type ConnectionRefusal, type SecureConnection, SvidServer } from '../identity/tls.ts';
import type { X509Svid } from '../identity/x509-svid.ts';
import { Health } from '../proto/gen/grpc/health/v1/health_pb.ts';
import { Agent } from '../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Bundle as BundleRpc } from '../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { Debug } from '../proto/gen/spire/api/server/debug/v1/debug_pb.ts';
import { Entry } from '../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { LocalAuthority } from '../proto/gen/spire/api/server/localauthority/v1/localauthority_pb.ts';
import { Logger } from '../proto/gen/spire/api/server/logger/v1/logger_pb.ts';
import { SVID } from '../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import { TrustDomain } from '../proto/gen/spire/api/server/trustdomain/v1/trustdomain_pb.ts';
import * as admin from '../proto/gen/writ/admin/v1/admin_pb.ts';
import { AgentService } from '../proto/gen/writ/agent/v1/agent_pb.ts';
import { GatewayService } from '../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { Clock } from '../runtime/clock.ts';
import { Fault } from '../runtime/fault.ts';
import { type Attempt, type Implementation, RpcServer } from '../runtime/grpc-server.ts';
import type { Logger as Log } from '../runtime/log.ts';
import { listenUnix } from '../runtime/unix-socket.ts';
import type { WatchedSource } from '../runtime/watched.ts';
import type { AccessServices } from './access/access.ts';
import { type Caller, type LocalCaller, localCaller, type ServerPeer } from './api/callers.ts';
import { type LocalGate, type Prove, RPC_TABLE, rpcGuard } from './api/rpc-table.ts';
import { withoutPort } from './attestation/attest-agent.ts';
import type { RefusalCounter } from './audit/refusal-counter.ts';
import type { ServerMetrics } from './metrics.ts';
import type { UnprovedConnections } from './unproved-connections.ts';

type Rpc = RpcServer<ServerPeer, Caller>;

/** An implementation for each service of the server. */
export interface Services extends Omit<AccessServices, 'gateway'> {
  readonly gateway: Implementation<typeof GatewayService, Caller>;
  readonly agents: Implementation<typeof Agent, Caller>;
  readonly entries: Implementation<typeof Entry, Caller>;
  readonly svids: Partial<Implementation<typeof SVID, Caller>>;
  readonly bundles: Partial<Implementation<typeof BundleRpc, Caller>>;
  readonly trustDomains: Implementation<typeof TrustDomain, Caller>;
  readonly localAuthorities: Partial<Implementation<typeof LocalAuthority, Caller>>;
  readonly logger: Implementation<typeof Logger, Caller>;
  readonly debug: Implementation<typeof Debug, Caller>;
  readonly health: Implementation<typeof Health, Caller>;
  readonly nodes: Partial<Implementation<typeof AgentService, Caller>>;
  readonly joinTokens: Implementation<typeof admin.JoinTokenService, Caller>;
  readonly identities: Implementation<typeof admin.IdentityService, Caller>;
  readonly audit: Implementation<typeof admin.AuditService, Caller>;
  readonly ssh: Implementation<typeof admin.SshService, Caller>;
  readonly agentRegistry: Implementation<typeof admin.AgentRegistryService, Caller>;
  readonly registrars: Implementation<typeof admin.RegistrarService, Caller>;
  readonly authorities: Implementation<typeof admin.AuthorityService, Caller>;
  readonly server: Partial<Implementation<typeof admin.ServerService, Caller>>;
}

export interface RpcOptions {
  readonly log: Log;
  readonly metrics: ServerMetrics;
  readonly prove: Prove;
  readonly gate: LocalGate;
  /** Shuts a server that was restored and not looked over yet. @throws Fault */
  restored(attempt: Attempt<ServerPeer>): void;
}

/** What agents and gateways reach; services of the admin socket are not even there. */
export function remoteRpc(services: Services, options: RpcOptions): Rpc {
  const rpc = rpcServer(options);
  addSpire(rpc, services);
  rpc.add(AgentService, services.nodes);
  rpc.add(GatewayService, services.gateway);
  return rpc;
}

/** What operators reach. */
export function adminRpc(services: Services, options: RpcOptions): Rpc {
  const rpc = rpcServer(options);
  addSpire(rpc, services);
  rpc.add(Health, services.health);
  rpc.add(Logger, services.logger);
  rpc.add(Debug, services.debug);
  rpc.add(admin.JoinTokenService, services.joinTokens);
  rpc.add(admin.IdentityService, services.identities);
  rpc.add(admin.ResourceService, services.resource);
  rpc.add(admin.BackendService, services.backend);
  rpc.add(admin.SessionService, services.session);
  rpc.add(admin.LockService, services.lock);
  rpc.add(admin.AuditService, services.audit);
  rpc.add(admin.GatewayRegistryService, services.gatewayRegistry);
  rpc.add(admin.SshService, services.ssh);
  rpc.add(admin.AgentRegistryService, services.agentRegistry);
  rpc.add(admin.RegistrarService, services.registrars);
  rpc.add(admin.AuthorityService, services.authorities);
  rpc.add(admin.SecretService, services.secret);
  rpc.add(admin.ServerService, services.server);
  return rpc;
}

function rpcServer({ log, metrics, prove, gate, restored }: RpcOptions): Rpc {
  const guard = rpcGuard(prove, gate);
  return new RpcServer<ServerPeer, Caller>({
    guard: async (attempt) => {
      restored(attempt);
      return guard(attempt);
    },
    log,
    onSilentEnd: ({ kind }) =>
      metrics.connectionsRefused.inc({ listener: kind === 'local' ? 'admin' : 'tls' }),
    onCall: ({ method: path, code, milliseconds }) => {
      // A stranger may call what does not exist, under any name.
      const method = RPC_TABLE.has(path) ? path : 'unknown';
      metrics.rpcs.inc({ method, code });
      metrics.rpcDuration.observe(milliseconds / 1000, { method });
    },
  });
}

function addSpire(rpc: Rpc, services: Services): void {
  rpc.add(Agent, services.agents);
  rpc.add(Entry, services.entries);
  rpc.add(SVID, services.svids);
  rpc.add(BundleRpc, services.bundles);
  rpc.add(TrustDomain, services.trustDomains);
  rpc.add(LocalAuthority, services.localAuthorities);
}

export interface TlsEndpointOptions {
  readonly svid: WatchedSource<X509Svid>;
  readonly bundle: WatchedSource<Bundle>;
  readonly clock: Clock;
  readonly refusals: RefusalCounter;
  readonly metrics: ServerMetrics;
  readonly unproved: UnprovedConnections;
  onConnection(connection: SecureConnection): void;
}

/**
 * The TLS port: a client certificate is asked for, not demanded, for AttestAgent comes without one.
 * One that does not verify ends the connection and is audited; it never counts as none.
 */
export function tlsEndpoint(options: TlsEndpointOptions): SvidServer {
  const { svid, bundle, clock, refusals, metrics, unproved, onConnection } = options;
  const onRefused = (refusal: ConnectionRefusal) => {
    metrics.connectionsRefused.inc({ listener: 'tls' });
    refusals.refused(refusal);
  };
  return new SvidServer({
    svid,
    bundles: bundle,
    client: 'optional',
    alpn: ['h2'],
    clock,
    onConnection: (connection) => {
      if (unproved.admit(connection)) {
        onConnection(connection);
        return;
      }
      const { address, socket } = connection;
      const [port, reason] = [socket.localPort ?? 0, 'too many connections without a role'];
      socket.destroy();
      onRefused({ address: withoutPort(address), port, reason });
    },
    onRefused,
  });
}

/**
 * The admin socket, open from the start so that a second server on the same state finds it taken;
 * who connects before `serve` is turned away.
 */
export class AdminSocket implements AsyncDisposable {
  readonly path: string;
  readonly #log: Log;
  #rpc: Rpc | undefined;
  #metrics: ServerMetrics | undefined;
  #listener: AsyncDisposable | undefined;

  private constructor(path: string, log: Log) {
    this.path = path;
    this.#log = log;
  }

  /** @throws Fault STATE_UNUSABLE if another process listens there */
  static async open(stateDir: string, log: Log): Promise<AdminSocket> {
    const socket = new AdminSocket(join(stateDir, 'admin.sock'), log);
    socket.#listener = await listenUnix({
      path: socket.path,
      mode: 0o600,
      onConnection: (connection, peer) => {
        try {
          socket.#accept(connection, localCaller(peer));
        } catch (error) {
          connection.destroy();
          socket.#refused(Fault.from(error));
        }
      },
      onRefused: (fault) => socket.#refused(fault),
    });
    return socket;
  }

  serve(rpc: Rpc, metrics: ServerMetrics): void {
    this.#rpc = rpc;
    this.#metrics = metrics;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#listener?.[Symbol.asyncDispose]();
  }

  #accept(connection: Parameters<Rpc['inject']>[0], caller: LocalCaller): void {
    if (this.#rpc === undefined) connection.destroy();
    else this.#rpc.inject(connection, caller);
  }

  #refused(fault: Fault): void {
    this.#metrics?.connectionsRefused.inc({ listener: 'admin' });
    this.#log.warn({ code: fault.code, err: fault }, 'admin connection refused');
  }
}
