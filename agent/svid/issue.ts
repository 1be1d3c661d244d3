/** Asks the server for the X509-SVIDs that the cache lacks or that are due for renewal. */
import type { KeyObject } from 'node:crypto';
import type { Bundle } from '../../identity/bundle.ts';
import { verifySvid } from '../../identity/verify.ts';
import { createCsr } from '../../identity/x509/csr.ts';
import { generateKey } from '../../identity/x509/key.ts';
import { type X509Svid, x509Svid } from '../../identity/x509-svid.ts';
import {
  type BatchNewX509SVIDResponse_Result,
  SVID,
} from '../../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Logger } from '../../runtime/log.ts';
import type { ServerLink } from '../server-link.ts';
import type { SvidCache } from './cache.ts';
import type { AgentEntry } from './entry.ts';

/** The server refuses more in one call. */
const LARGEST_BATCH = 500;
const TIMEOUT_MS = 30_000;
const OK = 0;
/** Statuses by which a server says that the agent may not have this SVID now, whoever asks. */
const REFUSALS: ReadonlySet<number> = new Set([5 /* NOT_FOUND */, 7 /* PERMISSION_DENIED */, 9]);

export interface IssuerOptions {
  readonly cache: SvidCache;
  readonly link: ServerLink;
  readonly clock: Clock;
  readonly log: Logger;
  readonly onIssued: (count: number) => void;
}

interface Request {
  readonly entry: AgentEntry;
  readonly key: KeyObject;
}

export class Issuer {
  readonly #options: IssuerOptions;
  #batchSize = LARGEST_BATCH;

  constructor(options: IssuerOptions) {
    this.#options = options;
  }

  /** Issues one batch of what is due; does nothing if nothing is. @throws `RpcError` if the call fails */
  async run(signal: AbortSignal): Promise<void> {
    const { cache, link } = this.#options;
    const entries = cache.due(this.#batchSize);
    if (entries.length === 0) return;
    try {
      const requests = await Promise.all(entries.map(newRequest));
      const params = requests.map(({ entry, key }) => ({
        entryId: entry.id,
        csr: createCsr(key, { uri: entry.spiffeId }),
      }));
      const { results } = await link.call((channel) =>
        channel.client(SVID).batchNewX509SVID({ params }, { signal, timeoutMs: TIMEOUT_MS }),
      );
      this.#take(requests, results);
      this.#batchSize = LARGEST_BATCH;
    } catch (error) {
      // A server too slow for a large batch may manage a small one.
      this.#batchSize = Math.max(1, Math.floor(this.#batchSize / 2));
      cache.failAll(entries, 'unavailable');
      throw error;
    }
  }

  #take(requests: readonly Request[], results: readonly BatchNewX509SVIDResponse_Result[]): void {
    const { cache, clock, log, onIssued } = this.#options;
    if (results.length !== requests.length) {
      throw new Fault('PROTOCOL_VIOLATION', 'the server answered with another number of SVIDs');
    }
    const issued: { entry: AgentEntry; svid: X509Svid }[] = [];
    const refused: AgentEntry[] = [];
    const failed: AgentEntry[] = [];
    for (const [at, { entry, key }] of requests.entries()) {
      const result = results[at];
      const code = result?.status?.code ?? OK;
      if (code === OK) {
        try {
          const svid = checkedSvid(result, { entry, key }, cache.state.value.bundle, clock.now());
          issued.push({ entry, svid });
        } catch (error) {
          log.error({ entry_id: entry.id, err: error }, 'issued X509-SVID cannot be used');
          failed.push(entry);
        }
        continue;
      }
      const message = result?.status?.message ?? '';
      log.warn({ entry_id: entry.id, code, reason: message }, 'X509-SVID not issued');
      (REFUSALS.has(code) ? refused : failed).push(entry);
    }
    if (refused.length > 0) cache.failAll(refused, 'refused');
    if (failed.length > 0) cache.failAll(failed, 'unavailable');
    if (issued.length > 0) cache.storeAll(issued);
    onIssued(issued.length);
  }
}

async function newRequest(entry: AgentEntry): Promise<Request> {
  return { entry, key: await generateKey('ec-p256') };
}

/** The SVID of a result, if it is the entry's, of our key, and verifies against the bundle. */
function checkedSvid(
  result: BatchNewX509SVIDResponse_Result | undefined,
  { entry, key }: Request,
  bundle: Bundle,
  now: Date,
): X509Svid {
  // Copied, so that one certificate does not keep the whole answer in memory.
  const chain = (result?.svid?.certChain ?? []).map((der) => Uint8Array.from(der));
  const svid = x509Svid(chain, key, entry.hint);
  if (String(svid.id) !== String(entry.spiffeId)) throw new Error(`it is an SVID of ${svid.id}`);
  verifySvid(svid.chain, (name) => (name === bundle.trustDomain ? bundle : undefined), now);
  return svid;
}
