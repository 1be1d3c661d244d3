import { toBinary } from '@bufbuild/protobuf';
import type { Bundle } from '../../identity/bundle.ts';
import { foreignBundleFromMessage } from '../../identity/bundle-message.ts';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import { Bundle as BundleService } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import {
  type Bundle as BundleMessage,
  BundleSchema,
} from '../../proto/gen/spire/api/types/bundle_pb.ts';
import { RpcError } from '../../runtime/grpc-client.ts';
import type { Logger } from '../../runtime/log.ts';
import type { ServerLink } from '../server-link.ts';
import type { AgentEntry } from './entry.ts';

const AT_ONCE = 10;
const TIMEOUT_MS = 30_000;

export interface FederatedBundlesOptions {
  readonly link: ServerLink;
  readonly log: Logger;
}

/** The bundles of foreign trust domains, and what they came from. */
export class FederatedBundles {
  readonly #options: FederatedBundlesOptions;
  #bytes: ReadonlyMap<TrustDomain, Uint8Array> = new Map();

  constructor(options: FederatedBundlesOptions) {
    this.#options = options;
  }

  /**
   * The bundles that the entries federate with; one that the server does not have, or that cannot be
   * read, is left out, so that a foreign trust domain harms nobody but itself.
   * @returns undefined if all are as they were
   * @throws RpcError
   */
  async sync(
    entries: readonly AgentEntry[],
    signal: AbortSignal,
  ): Promise<ReadonlyMap<TrustDomain, Bundle> | undefined> {
    const wanted = [...new Set(entries.flatMap(({ federatesWith }) => federatesWith))].sort();
    const messages = new Map<TrustDomain, BundleMessage>();
    for (let at = 0; at < wanted.length; at += AT_ONCE) {
      const part = wanted.slice(at, at + AT_ONCE);
      await Promise.all(
        part.map(async (name) => {
          const message = await this.#fetch(name, signal);
          if (message !== undefined) messages.set(name, message);
        }),
      );
    }
    const bytes = new Map([...messages].map(([name, one]) => [name, toBinary(BundleSchema, one)]));
    if (isSame(bytes, this.#bytes)) return undefined;
    this.#bytes = bytes;
    return this.#read(messages);
  }

  async #fetch(trustDomain: TrustDomain, signal: AbortSignal): Promise<BundleMessage | undefined> {
    const options = { signal, timeoutMs: TIMEOUT_MS };
    try {
      return await this.#options.link.call((channel) =>
        channel.client(BundleService).getFederatedBundle({ trustDomain }, options),
      );
    } catch (error) {
      if (error instanceof RpcError && error.status === 'NOT_FOUND') return undefined;
      throw error;
    }
  }

  #read(messages: ReadonlyMap<TrustDomain, BundleMessage>): Map<TrustDomain, Bundle> {
    const bundles = new Map<TrustDomain, Bundle>();
    for (const [name, message] of messages) {
      try {
        bundles.set(name, foreignBundleFromMessage(message, name));
      } catch (error) {
        this.#options.log.warn({ trust_domain: name, err: error }, 'federated bundle left out');
      }
    }
    return bundles;
  }
}

function isSame(
  a: ReadonlyMap<TrustDomain, Uint8Array>,
  b: ReadonlyMap<TrustDomain, Uint8Array>,
): boolean {
  return a.size === b.size && [...a].every(([name, bytes]) => sameBytes(bytes, b.get(name)));
}

function sameBytes(a: Uint8Array, b: Uint8Array | undefined): boolean {
  return b !== undefined && Buffer.compare(a, b) === 0;
}
