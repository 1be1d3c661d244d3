import type { SpiffeId } from '../../identity/spiffe-id.ts';
import { fetchJwtSvid } from '../../sdk/jwt-source.ts';
import { WorkloadApiClient } from '../../sdk/workload-api-client.ts';

/** JWT-SVIDs of the gateway itself, from the agent that gave it its X509-SVID. */
export class OwnJwtSvids implements AsyncDisposable {
  readonly #workloadApi: string;
  readonly #spiffeId: SpiffeId;
  #client: WorkloadApiClient | undefined;

  /** @param workloadApi path of the agent's socket */
  constructor(workloadApi: string, spiffeId: SpiffeId) {
    this.#workloadApi = workloadApi;
    this.#spiffeId = spiffeId;
  }

  /** @throws `RpcError` */
  readonly fetch = async (audience: string, signal: AbortSignal): Promise<string> => {
    this.#client ??= new WorkloadApiClient(`unix://${this.#workloadApi}`);
    const options = { spiffeId: this.#spiffeId, signal };
    const { token } = await fetchJwtSvid(this.#client, audience, options);
    return token;
  };

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client?.[Symbol.asyncDispose]();
  }
}
