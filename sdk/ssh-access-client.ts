/** What an agent of Writ gives a workload for SSH, on the socket of the Workload API. */
import { timestampDate } from '@bufbuild/protobuf/wkt';
import { SpiffeId } from '../identity/spiffe-id.ts';
import { parseSshCertificate, type SshCertificate } from '../identity/ssh/certificate.ts';
import { type GetSshAccessResponse, SshService } from '../proto/gen/writ/agent/v1/workload_pb.ts';
import { Fault } from '../runtime/fault.ts';
import { type Client, RpcChannel } from '../runtime/grpc-client.ts';
import { endpointPath } from './endpoint.ts';
import { METADATA } from './workload-api-client.ts';

/** A certificate for the key that it was asked for. */
export interface FetchedSshCertificate {
  readonly id: SpiffeId;
  readonly certificate: SshCertificate;
  /** Public key blobs that sign host certificates. */
  readonly hostAuthorities: readonly Uint8Array[];
  readonly expiresAt: Date;
}

export class SshAccessClient implements AsyncDisposable {
  readonly #channel: RpcChannel;
  readonly #client: Client<typeof SshService>;

  /**
   * @param endpoint `unix:///path`; that of the environment if left out
   * @throws Fault `INVALID_ARGUMENT`
   */
  constructor(endpoint?: string) {
    this.#channel = RpcChannel.unix(endpointPath(endpoint));
    this.#client = this.#channel.client(SshService);
  }

  /**
   * Has a key certified that this process made and keeps.
   * @param publicKey RFC 4253 6.6
   * @param spiffeId one of the process's; its first if left out
   * @throws `RpcError`; Fault `PROTOCOL_VIOLATION` if the certificate is for another key
   */
  async issue(
    publicKey: Uint8Array,
    options: { readonly spiffeId?: SpiffeId | undefined; readonly signal: AbortSignal },
  ): Promise<FetchedSshCertificate> {
    const spiffeId = options.spiffeId === undefined ? '' : String(options.spiffeId);
    const answer = await this.#client.issueSshCertificate(
      { publicKey, spiffeId },
      { signal: options.signal, metadata: METADATA },
    );
    const certificate = parseSshCertificate(answer.certificate);
    if (!certificate.publicKey.equals(publicKey) || certificate.keyId !== answer.spiffeId) {
      throw new Fault('PROTOCOL_VIOLATION', 'the agent sent a certificate of something else');
    }
    return {
      id: SpiffeId.parse(answer.spiffeId),
      certificate,
      hostAuthorities: answer.hostAuthorities,
      expiresAt:
        answer.expiresAt === undefined ? certificate.validBefore : timestampDate(answer.expiresAt),
    };
  }

  /**
   * Where this process may log in, and by what its ssh client knows the hosts.
   * @throws `RpcError`; Fault `PROTOCOL_VIOLATION` if a name of it could be more than a name in a file
   */
  async access(signal: AbortSignal): Promise<GetSshAccessResponse> {
    const access = await this.#client.getSshAccess({}, { signal, metadata: METADATA });
    checkWords(access);
    return access;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#channel[Symbol.asyncDispose]();
  }
}

const NAME = /^[a-z0-9][a-z0-9-]{0,62}$/;
const LOGIN = /^[a-z_][a-z0-9_-]{0,31}$/;
const HOST = /^[A-Za-z0-9:][A-Za-z0-9.:-]{0,252}$/;
const SOCKET = /^(?:\/[^\p{Cc}"]*)?$/u;

/** A line feed in one of them would be a line of the ssh_config, which can run programs. */
function checkWords({ targets, agentSocket }: GetSshAccessResponse): void {
  const gateways = targets.flatMap((target) => target.gateways);
  const isPlain =
    SOCKET.test(agentSocket) &&
    targets.every(({ backend, logins }) => NAME.test(backend) && logins.every(isLogin)) &&
    gateways.every(({ name, hosts }) => NAME.test(name) && hosts.every((host) => HOST.test(host)));
  if (isPlain) return;
  throw new Fault('PROTOCOL_VIOLATION', 'the agent sent names that no target or gateway has');
}

function isLogin(text: string): boolean {
  return LOGIN.test(text);
}
