import { MAXIMUM_CRL_BYTES } from '../../identity/x509/crl.ts';
import { AgentService } from '../../proto/gen/writ/agent/v1/agent_pb.ts';
import { RpcError } from '../../runtime/grpc-client.ts';
import type { ServerLink } from '../server-link.ts';

const TIMEOUT_MS = 30_000;

/** The server's revocation lists, as they were last told. */
export class ServerCrls {
  readonly #link: ServerLink;
  #known: readonly Uint8Array[] = [];

  constructor({ link }: { readonly link: ServerLink }) {
    this.#link = link;
  }

  /**
   * All lists, DER, which are for those to verify who rely on them; none from a server of another make, nor
   * where together they are more than a workload can be told.
   * @returns undefined if they are as they were
   * @throws RpcError
   */
  async sync(signal: AbortSignal): Promise<readonly Uint8Array[] | undefined> {
    const told = await this.#fetch(signal);
    const bytes = told.reduce((sum, { length }) => sum + length, 0);
    const crls = bytes > MAXIMUM_CRL_BYTES ? [] : told;
    if (isSame(crls, this.#known)) return undefined;
    this.#known = crls;
    return crls;
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
