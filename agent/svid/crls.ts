import { CRL_REASON, MAXIMUM_CRL_BYTES, parseCrl } from '../../identity/x509/crl.ts';
import { AgentService } from '../../proto/gen/writ/agent/v1/agent_pb.ts';
import { RpcError } from '../../runtime/grpc-client.ts';
import type { Logger } from '../../runtime/log.ts';
import type { ServerLink } from '../server-link.ts';

const TIMEOUT_MS = 30_000;

/** What the server tells of revoked certificates. */
export interface ToldCrls {
  /** DER; for those to verify who rely on them. */
  readonly crls: readonly Uint8Array[];
  /** Serials that are revoked for good, which none of two authorities share. */
  readonly revoked: ReadonlySet<string>;
}

/** The server's revocation lists, as they were last told. */
export class ServerCrls {
  readonly #link: ServerLink;
  readonly #log: Logger;
  #known: readonly Uint8Array[] = [];

  constructor({ link, log }: { readonly link: ServerLink; readonly log: Logger }) {
    this.#link = link;
    this.#log = log;
  }

  /**
   * All lists; none from a server of another make, nor where together they are more than a workload can be
   * told.
   * @returns undefined if they are as they were
   * @throws RpcError
   */
  async sync(signal: AbortSignal): Promise<ToldCrls | undefined> {
    const told = await this.#fetch(signal);
    const bytes = told.reduce((sum, { length }) => sum + length, 0);
    const crls = bytes > MAXIMUM_CRL_BYTES ? [] : told;
    if (isSame(crls, this.#known)) return undefined;
    this.#known = crls;
    return { crls, revoked: new Set(crls.flatMap((der) => this.#revokedIn(der))) };
  }

  #revokedIn(der: Uint8Array): string[] {
    try {
      return [...parseCrl(der).revoked.values()]
        .filter(({ reason }) => reason !== CRL_REASON.certificateHold)
        .map(({ serial }) => serial);
    } catch (error) {
      this.#log.warn({ err: error }, 'a revocation list of the server cannot be read');
      return [];
    }
  }

  async #fetch(signal: AbortSignal): Promise<readonly Uint8Array[]> {
    const options = { signal, timeoutMs: TIMEOUT_MS };
    try {
      const { crls } = await this.#link.call((channel) =>
        channel.client(AgentService).getCrl({}, options),
      );
      return crls;
    } catch (error) {
      if (error instanceof RpcError && error.status === 'UNIMPLEMENTED') return [];
      throw error;
    }
  }
}

function isSame(one: readonly Uint8Array[], other: readonly Uint8Array[]): boolean {
  return (
    one.length === other.length &&
    one.every((der, at) => Buffer.compare(der, other[at] ?? Buffer.of()) === 0)
  );
}
