/**
 * A server for tests of the agent: the calls that a spire-agent makes, over real TLS, with real SVIDs,
 * and knobs for what a server can do to an agent. It holds everything in memory and checks little.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { anyPack, timestampFromDate } from '@bufbuild/protobuf/wkt';
import { type Bundle, bundlePin } from '../../identity/bundle.ts';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { type SecureConnection, SvidServer } from '../../identity/tls.ts';
import { parseCsr } from '../../identity/x509/csr.ts';
import { spkiOf } from '../../identity/x509/key.ts';
import { StatusSchema } from '../../proto/gen/google/rpc/status_pb.ts';
import {
  Agent,
  type AttestAgentRequest,
} from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Bundle as BundleService } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import {
  Entry as EntryService,
  type SyncAuthorizedEntriesRequest,
} from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { SVID } from '../../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import type { EntrySchema } from '../../proto/gen/spire/api/types/entry_pb.ts';
import {
  type PermissionDeniedDetails_Reason,
  PermissionDeniedDetailsSchema,
} from '../../proto/gen/spire/api/types/status_pb.ts';
import { AgentService, type SshTargetSchema } from '../../proto/gen/writ/agent/v1/agent_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { type Implementation, RpcServer } from '../../runtime/grpc-server.ts';
import { createLogger } from '../../runtime/log.ts';
import { Watched } from '../../runtime/watched.ts';
import type { FakeAuthority } from './fake-authority.ts';
import type { CertificateChange, SshAuthorities } from './ssh-authorities.ts';

type EntryInit = MessageInitShape<typeof EntrySchema>;

export interface FakeServerOptions {
  readonly authority: FakeAuthority;
  /** Whether it offers Writ's WatchEntries; a spire-server does not. */
  readonly pushes?: boolean;
  /** Who signs SSH certificates for it; without them it offers no such call. */
  readonly ssh?: SshAuthorities;
  /** How long those live; 5 minutes if left out. */
  readonly sshTtlMs?: number;
  /** Above as many entries it sends revisions first. */
  readonly pageSize?: number;
  readonly agentTtlMs?: number;
  readonly svidTtlMs?: number;
  readonly jwtTtlMs?: number;
  /** What an impostor shows as the bundle. */
  readonly shownBundle?: Bundle;
  /** Last part of its own SPIFFE ID, for an impostor; `server` if left out. */
  readonly name?: string;
}

/** Knobs and records for a test; the server is listening when `start` resolves. */
export class FakeSpireServer implements AsyncDisposable {
  readonly authority: FakeAuthority;
  /** Method names of all calls, in their order. */
  readonly calls: string[] = [];
  /** Sizes of the batches of X509-SVIDs, and of the id lists in syncs. */
  readonly batches: number[] = [];
  readonly idRequests: number[] = [];
  /** Status code instead of an SVID, by entry id. */
  readonly refusals = new Map<string, number>();
  /** Serials with which calls came in. */
  readonly serials: string[] = [];
  /** Where the targets of SSH are told to be, and for which entries that was asked. */
  sshTargets: MessageInitShape<typeof SshTargetSchema>[] = [];
  readonly targetRequests: string[][] = [];
  /** What SSH certificates say otherwise. */
  sshChange: CertificateChange = {};
  /** How long it takes to sign one. */
  sshDelayMs = 0;
  joinTokens = new Set(['0123456789abcdef0123']);
  /** Bundles of trust domains that entries may federate with; it knows no others. */
  readonly federated = new Map<string, Bundle>();
  /** How every call of an agent is refused, once set. */
  denial: PermissionDeniedDetails_Reason | undefined;
  address = '';
  #port = 0;
  #entries: readonly EntryInit[] = [];
  readonly #options: FakeServerOptions;
  readonly #seq = new Watched(1n);
  #running: { tls: SvidServer; rpc: RpcServer<SecureConnection, SecureConnection> } | undefined;

  private constructor(options: FakeServerOptions) {
    this.authority = options.authority;
    this.#options = options;
  }

  static async start(options: FakeServerOptions): Promise<FakeSpireServer> {
    const server = new FakeSpireServer(options);
    await server.listen();
    return server;
  }

  /** Again on the same port, after `stop`. */
  async listen(): Promise<void> {
    const { authority } = this;
    const serverId = SpiffeId.fromSegments(
      authority.trustDomain,
      'spire',
      this.#options.name ?? 'server',
    );
    const rpc = new RpcServer<SecureConnection, SecureConnection>({
      guard: ({ peer, method }) => this.#admit(peer, method),
      log: createLogger({ process: 'server', level: 'silent' }),
    });
    rpc.add(Agent, this.#agentService());
    rpc.add(EntryService, { syncAuthorizedEntries: (requests) => this.#sync(requests) });
    rpc.add(SVID, this.#svidService());
    rpc.add(BundleService, {
      getBundle: async () => bundleMessage(this.#options.shownBundle ?? authority.bundle.value),
      getFederatedBundle: async ({ trustDomain }) => this.#federatedBundle(trustDomain),
    });
    if (this.#options.pushes !== false)
      rpc.add(AgentService, {
        watchEntries: (_, { signal }) => this.#watch(signal),
        ...this.#sshService(this.#options.ssh),
      });
    const tls = new SvidServer({
      svid: new Watched(await authority.issue(serverId)),
      bundles: authority.bundle,
      client: 'optional',
      alpn: ['h2'],
      clock: systemClock,
      onConnection: (connection) => rpc.inject(connection.socket, connection),
      onRefused: ({ reason }) => this.calls.push(`refused: ${reason}`),
    });
    const { port } = await tls.listen('127.0.0.1', this.#port);
    this.#port = port;
    this.address = `127.0.0.1:${port}`;
    this.#running = { tls, rpc };
  }

  async stop(): Promise<void> {
    await this.#running?.rpc[Symbol.asyncDispose]();
    await this.#running?.tls[Symbol.asyncDispose]();
    this.#running = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  joinString(token = '0123456789abcdef0123'): string {
    return `writ1.${token}.${bundlePin(this.authority.bundle.value)}`;
  }

  setEntries(entries: readonly EntryInit[]): void {
    this.#entries = entries;
    this.push();
  }

  /** Tells agents that something may have changed. */
  push(): void {
    this.#seq.set(this.#seq.value + 1n);
  }

  /** The last agent SVID's serial in use is this connection's. */
  #admit(connection: SecureConnection, method: string): SecureConnection {
    const name = method.slice(method.lastIndexOf('/') + 1);
    this.calls.push(name);
    if (name === 'AttestAgent' || name === 'GetBundle') return connection;
    if (connection.peer === undefined) throw new Fault('PERMISSION_DENIED', 'agents only');
    this.serials.push(connection.peer.serial);
    if (this.denial !== undefined) throw denied(this.denial);
    return connection;
  }

  #agentService(): Partial<Implementation<typeof Agent, SecureConnection>> {
    return {
      attestAgent: (requests) => this.#attest(requests),
      renewAgent: async ({ params }) => this.#issueAgent(params?.csr),
      postStatus: async () => ({}),
    };
  }

  async *#attest(requests: AsyncIterable<AttestAgentRequest>) {
    for await (const { step } of requests) {
      if (step.case !== 'params') throw new Fault('INVALID_ARGUMENT', 'params come first');
      const token = Buffer.from(step.value.data?.payload ?? []).toString();
      if (!this.joinTokens.delete(token))
        throw new Fault('JOIN_TOKEN_INVALID', 'join token refused');
      const value = await this.#issueAgent(step.value.params?.csr);
      yield { step: { case: 'result' as const, value } };
      return;
    }
  }

  async #issueAgent(csr: Uint8Array = new Uint8Array()) {
    const { trustDomain } = this.authority;
    const id = SpiffeId.fromSegments(trustDomain, 'spire', 'agent', 'join_token', 'jt-1');
    const ttlMs = this.#options.agentTtlMs ?? 3_600_000;
    const der = this.authority.sign(id, (await parseCsr(csr)).spki, ttlMs);
    return { svid: { certChain: [der], id: messageId(id) } };
  }

  async *#sync(requests: AsyncIterable<SyncAuthorizedEntriesRequest>) {
    const size = this.#options.pageSize ?? 500;
    const all = this.#entries;
    for await (const { ids, outputMask } of requests) {
      if (outputMask !== undefined && all.length <= size) {
        yield { entries: [...all] };
      } else if (outputMask !== undefined) {
        for (const { items, more } of paged(all, size)) {
          yield { entryRevisions: items.map(revisionOf), more };
        }
      } else {
        this.idRequests.push(ids.length);
        const wanted = all.filter(({ id = '' }) => ids.includes(id));
        for (const { items, more } of paged(wanted, size)) yield { entries: items, more };
      }
    }
  }

  #svidService() {
    return {
      batchNewX509SVID: async ({ params }: { params: { entryId: string; csr: Uint8Array }[] }) => {
        this.batches.push(params.length);
        const issue = async ({ entryId, csr }: { entryId: string; csr: Uint8Array }) => {
          const id = this.#idOf(entryId);
          const code = this.refusals.get(entryId) ?? (id === undefined ? 5 : 0);
          if (id === undefined || code !== 0) return { status: { code, message: 'refused' } };
          const ttlMs = this.#options.svidTtlMs ?? 3_600_000;
          const der = this.authority.sign(id, (await parseCsr(csr)).spki, ttlMs);
          return { status: { code: 0 }, svid: { certChain: [der], id: messageId(id) } };
        };
        return { results: await Promise.all(params.map(issue)) };
      },
      newJWTSVID: async ({ entryId, audience }: { entryId: string; audience: string[] }) => {
        const id = this.#idOf(entryId);
        if (id === undefined) throw new Fault('NOT_FOUND', 'entry not found or not authorized');
        const jwt = this.authority.signJwt(id, audience, this.#options.jwtTtlMs ?? 300_000);
        const times = {
          issuedAt: unixSeconds(jwt.issuedAt),
          expiresAt: unixSeconds(jwt.expiresAt),
        };
        return { svid: { token: jwt.token, id: messageId(id), ...times } };
      },
    };
  }

  #sshService(
    ssh: SshAuthorities | undefined,
  ): Partial<Implementation<typeof AgentService, SecureConnection>> {
    if (ssh === undefined) return {};
    return {
      signSshCertificate: async ({ entryId, publicKey }) => {
        if (this.sshDelayMs > 0) await sleep(this.sshDelayMs);
        const id = this.#idOf(entryId);
        if (id === undefined || this.refusals.has(entryId))
          throw new Fault('PERMISSION_DENIED', 'refused');
        const validBefore = new Date(Date.now() + (this.#options.sshTtlMs ?? 300_000));
        const certificate = ssh.issueUser(String(id), publicKey, {
          validBefore,
          ...this.sshChange,
        });
        const expiresAt = timestampFromDate(validBefore);
        return { certificate, hostAuthorities: ssh.keys.host, expiresAt };
      },
      listSshTargets: async ({ entryIds }) => {
        this.targetRequests.push(entryIds);
        return { targets: this.sshTargets, hostAuthorities: ssh.keys.host };
      },
    };
  }

  #idOf(entryId: string): SpiffeId | undefined {
    const path = this.#entries.find(({ id }) => id === entryId)?.spiffeId?.path;
    const segments = (path ?? '').split('/').slice(1);
    return path === undefined
      ? undefined
      : SpiffeId.fromSegments(this.authority.trustDomain, ...segments);
  }

  async *#watch(signal: AbortSignal) {
    for await (const seq of this.#seq.values(signal)) yield { seq };
  }

  #federatedBundle(trustDomain: string) {
    const bundle = this.federated.get(trustDomain);
    if (bundle === undefined) throw new Fault('NOT_FOUND', 'bundle not found');
    return bundleMessage(bundle);
  }
}

function bundleMessage({ trustDomain, sequenceNumber, ...bundle }: Bundle) {
  return {
    trustDomain,
    x509Authorities: bundle.x509Authorities.map(({ der, tainted }) => ({ asn1: der, tainted })),
    jwtAuthorities: bundle.jwtAuthorities.map(({ keyId, publicKey, tainted }) => ({
      keyId,
      publicKey: spkiOf(publicKey),
      tainted,
    })),
    sequenceNumber,
  };
}

/** What SPIRE attaches to a PERMISSION_DENIED for an agent. */
export function denied(reason: PermissionDeniedDetails_Reason): Fault {
  const detail = create(PermissionDeniedDetailsSchema, { reason });
  const any = anyPack(PermissionDeniedDetailsSchema, detail);
  const status = create(StatusSchema, { code: 7, message: 'agent denied', details: [any] });
  return new Fault('PERMISSION_DENIED', 'agent denied', {
    details: toBinary(StatusSchema, status),
  });
}

function* paged<T>(all: readonly T[], size: number): Generator<{ items: T[]; more: boolean }> {
  for (let at = 0; at < Math.max(all.length, 1); at += size) {
    yield { items: all.slice(at, at + size), more: at + size < all.length };
  }
}

function revisionOf({ id = '', revisionNumber = 0n, createdAt = 0n }: EntryInit) {
  return { id, revisionNumber, createdAt };
}

function messageId({ trustDomain, path }: SpiffeId) {
  return { trustDomain, path };
}

function unixSeconds(at: Date): bigint {
  return BigInt(Math.floor(at.getTime() / 1000));
}
