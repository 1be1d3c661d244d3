import { once } from 'node:events';
import net from 'node:net';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { Outbox } from '../../gateway/access/outbox.ts';
import { parseSshCertificate } from '../../identity/ssh/certificate.ts';
import { parseUserAuthData, verifyUserAuth } from '../../identity/ssh/user-auth.ts';
import { verifySshCertificate } from '../../identity/ssh/verify-certificate.ts';
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
  type SignSshCertificateRequest,
  type SignSshCertificateResponseSchema,
  type SignSshHostCertificateRequest,
  type SignSshHostCertificateResponseSchema,
  type Snapshot,
  SnapshotSchema,
  type SubjectSchema,
} from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { Grant, SshRights } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { RpcServer } from '../../runtime/grpc-server.ts';
import { createLogger } from '../../runtime/log.ts';
import { SshAuthorities } from './ssh-authorities.ts';

type Down = MessageInitShape<typeof ConnectResponseSchema>;
type SubjectInit = NonNullable<MessageInitShape<typeof SubjectSchema>['subject']>;
type OpenSessionAnswer = MessageInitShape<typeof OpenSessionResponseSchema>;
type SignAnswer = MessageInitShape<typeof SignSshCertificateResponseSchema>;
type SignHostAnswer = MessageInitShape<typeof SignSshHostCertificateResponseSchema>;

/** As in the record of the gateway; the target sees it come from there. */
const GATEWAY_HOSTS = ['localhost', '127.0.0.1'];
const LOGIN_TTL_MS = 60_000;
const HOST_TTL_MS = 24 * 60 * 60_000;

/** A server as a gateway sees it, over a Unix socket; tests say when it speaks and what it answers. */
export class FakeGatewayServer implements AsyncDisposable {
  readonly hellos: Hello[] = [];
  readonly leases: Lease[] = [];
  readonly events: Event[] = [];
  readonly chunks: RecordingChunk[] = [];
  readonly opened: OpenSessionRequest[] = [];
  readonly closed: CloseSessionRequest[] = [];
  readonly signed: SignSshCertificateRequest[] = [];
  readonly hostsSigned: SignSshHostCertificateRequest[] = [];
  readonly revocations: MessageInitShape<typeof RevocationSchema>[] = [];
  snapshot: Snapshot = create(SnapshotSchema, { revision: 1n });
  /** Whether a new stream gets a heartbeat behind its snapshot. */
  isBeating = true;
  /** Whether events are accepted. */
  isAccepting = true;
  answer: (request: OpenSessionRequest) => Promise<OpenSessionAnswer>;
  sign: (request: SignSshCertificateRequest) => Promise<SignAnswer>;
  signHost: (request: SignSshHostCertificateRequest) => Promise<SignHostAnswer>;
  onClose: () => void = () => {};
  readonly ssh: SshAuthorities;
  readonly path: string;
  readonly #clock: Clock;
  readonly #listener: net.Server;
  readonly #rpc: RpcServer<string, string>;
  readonly #streams = new Set<Outbox<Down>>();
  #sessions = 0;
  readonly #requests = new Map<string, { request: OpenSessionRequest; serial: string }>();

  private constructor(path: string, clock: Clock) {
    this.path = path;
    this.#clock = clock;
    this.ssh = new SshAuthorities(clock);
    this.answer = (request) => this.openSession(request);
    this.sign = (request) => this.signSshCertificate(request);
    this.signHost = (request) => this.signSshHostCertificate(request);
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
      signSshCertificate: (request) => {
        this.signed.push(request);
        return this.sign(request);
      },
      signSshHostCertificate: (request) => {
        this.hostsSigned.push(request);
        return this.signHost(request);
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
    const grant = this.#grantOf(request);
    const svidSerial = this.#serialOf(request, grant?.identity ?? '');
    this.#sessions += 1;
    const sessionId = `s_${this.#sessions}`;
    this.#requests.set(sessionId, { request, serial: svidSerial });
    return {
      sessionId,
      ...(grant === undefined ? {} : { grant }),
      expiresAt: timestampFromDate(new Date(this.#clock.now().getTime() + 3_600_000)),
      serverTime: timestampFromDate(this.#clock.now()),
      spiffeId: grant?.identity ?? '',
      svidSerial,
      entryId: 'entry-1',
      agentId: 'spiffe://example.org/spire/agent/join_token/n1',
      owner: 'shop-team',
      purpose: 'tests',
      environment: 'test',
    };
  }

  /** The server's usual answer: one login on the target of a session that is open. */
  async signSshCertificate(request: SignSshCertificateRequest): Promise<SignAnswer> {
    const { sessionId, publicKey } = request;
    const opened = this.#requests.get(sessionId);
    const grant = opened && this.#grantOf(opened.request);
    if (opened === undefined || grant?.rights.case !== 'ssh') {
      throw new Fault('NOT_FOUND', 'no such session');
    }
    const { backend, login } = opened.request;
    const rights = grant.rights.value;
    const validBefore = new Date(this.#clock.now().getTime() + LOGIN_TTL_MS);
    const certificate = this.ssh.issueGateway(publicKey, {
      keyId: `${grant.identity} session=${sessionId} serial=${opened.serial}`,
      principals: [`${backend}/${login}`],
      validBefore,
      criticalOptions: {
        'source-address': '127.0.0.1',
        ...(isSftpOnly(rights) ? { 'force-command': 'internal-sftp' } : {}),
      },
      extensions: rights.shell ? ['permit-pty'] : [],
    });
    return { certificate, expiresAt: timestampFromDate(validBefore) };
  }

  /** The server's usual answer: the gateway's names, or the backend's. */
  async signSshHostCertificate(request: SignSshHostCertificateRequest): Promise<SignHostAnswer> {
    const { publicKey, backend } = request;
    if (backend !== '' && !this.snapshot.backends.some(({ name }) => name === backend)) {
      throw new Fault('NOT_FOUND', 'no such backend');
    }
    const validBefore = new Date(this.#clock.now().getTime() + HOST_TTL_MS);
    const principals = backend === '' ? GATEWAY_HOSTS : [backend];
    const certificate = this.ssh.issueHost(principals, publicKey, { validBefore });
    return { certificate, expiresAt: timestampFromDate(validBefore) };
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

  /** The serial of what the client proved itself by; looked at as the server does (threats S2). */
  /** The named one; else the first on that backend that an SSH client holds for its login. */
  #grantOf({ backend, grant, login, sshProof }: OpenSessionRequest): Grant | undefined {
    const { grants } = this.snapshot;
    if (grant !== '') return grants.find(({ name }) => name === grant);
    const client = sshProof && parseSshCertificate(sshProof.certificate).keyId;
    return grants.find(
      ({ backend: its, identity, rights }) =>
        its === backend &&
        (client === undefined || identity === client) &&
        (rights.case !== 'ssh' || rights.value.logins.includes(login)),
    );
  }

  #serialOf({ sshProof, clientChain }: OpenSessionRequest, spiffeId: string): string {
    if ((sshProof === undefined) === (clientChain.length === 0)) {
      throw new Fault('INVALID_ARGUMENT', 'one proof is wanted');
    }
    if (sshProof === undefined) return '0a0b';
    const { certificate: blob, signedData, signature } = sshProof;
    const rule = { type: 'user', authorities: this.ssh.keys.user, now: this.#clock.now() } as const;
    const sourceAddress = '127.0.0.1';
    const certificate = verifySshCertificate(blob, { ...rule, sourceAddress, principal: spiffeId });
    const request = parseUserAuthData(signedData);
    if (!verifyUserAuth(certificate, request, signedData, signature)) {
      throw new Fault('PERMISSION_DENIED', 'the proof does not verify');
    }
    return String(certificate.serial);
  }

  #heartbeat(options: { revocationSeq?: bigint; serverTime?: Date }): NonNullable<Down['message']> {
    const { revocationSeq = BigInt(this.revocations.length), serverTime = this.#clock.now() } =
      options;
    const value = { revocationSeq, serverTime: timestampFromDate(serverTime) };
    return { case: 'heartbeat', value };
  }
}

function isSftpOnly({ shell, exec, commands, sftp }: SshRights): boolean {
  return sftp && !shell && !exec && commands.length === 0;
}
