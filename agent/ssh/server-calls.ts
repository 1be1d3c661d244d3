import type { TrustDomain } from '../../identity/spiffe-id.ts';
import { parseSshCertificate } from '../../identity/ssh/certificate.ts';
import { parsePublicKey } from '../../identity/ssh/public-key.ts';
import { workloadIdentity } from '../../identity/ssh/verify-certificate.ts';
import {
  AgentService,
  type ListSshTargetsResponse,
  type SignSshCertificateResponse,
} from '../../proto/gen/writ/agent/v1/agent_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { RpcError } from '../../runtime/grpc-client.ts';
import type { ServerLink } from '../server-link.ts';
import type { AgentEntry } from '../svid/entry.ts';
import type { SignedKey } from './certificate-cache.ts';

const TIMEOUT_MS = 5000;
/** Of all users together; each has but a few turns. */
const MAXIMUM_RUNNING = 256;
const MAXIMUM_AUTHORITIES = 32;
/** The server refuses more. */
const MAXIMUM_ENTRIES = 500;
const REFUSALS: ReadonlySet<string> = new Set([
  'FAILED_PRECONDITION',
  'NOT_FOUND',
  'PERMISSION_DENIED',
]);

export interface SshServerOptions {
  readonly link: ServerLink;
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
  /** The agent's own end: whoever waits, calls go on until then. */
  readonly signal: AbortSignal;
  onIssued(): void;
}

/** What the server does about SSH for this agent's workloads. A spire-server offers none of it. */
export class SshServer {
  readonly #options: SshServerOptions;
  #running = 0;

  constructor(options: SshServerOptions) {
    this.#options = options;
  }

  /**
   * @param publicKey checked
   * @throws Fault PERMISSION_DENIED if the agent may not have it, INVALID_ARGUMENT if it is the key
   * that the server refuses, UNAVAILABLE
   */
  async sign(entry: AgentEntry, publicKey: Uint8Array): Promise<SignedKey> {
    const { link, signal, onIssued } = this.#options;
    const request = { entryId: entry.id, publicKey };
    return await this.#limited(async () => {
      const answer = await link.call((channel) =>
        channel.client(AgentService).signSshCertificate(request, { signal, timeoutMs: TIMEOUT_MS }),
      );
      const signed = this.#checked(answer, entry, publicKey);
      onIssued();
      return signed;
    });
  }

  /** Where the identities of these entries, of the first 500, may log in. @throws Fault as `sign` */
  async targets(
    entries: readonly AgentEntry[],
    timeoutMs = TIMEOUT_MS,
  ): Promise<ListSshTargetsResponse> {
    const { link, signal } = this.#options;
    const request = { entryIds: entries.slice(0, MAXIMUM_ENTRIES).map(({ id }) => id) };
    return await this.#limited(() =>
      link.call((channel) =>
        channel.client(AgentService).listSshTargets(request, { signal, timeoutMs }),
      ),
    );
  }

  async #limited<T>(call: () => Promise<T>): Promise<T> {
    if (this.#running >= MAXIMUM_RUNNING) {
      throw new Fault('UNAVAILABLE', 'too many calls for SSH are under way');
    }
    this.#running++;
    try {
      return await call();
    } catch (error) {
      throw faultOf(error);
    } finally {
      this.#running--;
    }
  }

  #checked(
    { certificate: blob, hostAuthorities }: SignSshCertificateResponse,
    entry: AgentEntry,
    publicKey: Uint8Array,
  ): SignedKey {
    const { trustDomain, clock } = this.#options;
    const certificate = parseSshCertificate(blob);
    const id = workloadIdentity(certificate, trustDomain);
    const isAsked =
      certificate.type === 'user' &&
      certificate.publicKey.equals(publicKey) &&
      String(id) === String(entry.spiffeId);
    if (!isAsked) {
      throw new Fault(
        'PROTOCOL_VIOLATION',
        'the server signed an SSH certificate of something else',
      );
    }
    if (!(certificate.validBefore > clock.now())) {
      throw new Fault('PROTOCOL_VIOLATION', 'the server signed an SSH certificate that has ended');
    }
    if (hostAuthorities.length > MAXIMUM_AUTHORITIES) {
      throw new Fault('PROTOCOL_VIOLATION', 'the server told of too many host authorities');
    }
    for (const authority of hostAuthorities) parsePublicKey(authority);
    return { certificate, hostAuthorities };
  }
}

/** What a workload may know of a failure at the server. */
function faultOf(cause: unknown): Fault {
  const status = cause instanceof RpcError ? cause.status : '';
  if (REFUSALS.has(status)) return new Fault('PERMISSION_DENIED', 'no identity issued', { cause });
  if (status === 'INVALID_ARGUMENT') {
    return new Fault('INVALID_ARGUMENT', 'the server refused the public key', { cause });
  }
  if (status === 'UNIMPLEMENTED') {
    return new Fault('UNAVAILABLE', 'the server issues no SSH certificates', { cause });
  }
  return new Fault('UNAVAILABLE', 'no SSH certificate can be issued now', { cause });
}
