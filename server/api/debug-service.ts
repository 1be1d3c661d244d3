import { X509Certificate } from 'node:crypto';
import type { Bundle } from '../../identity/bundle.ts';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { isIssuedBy, parseCertificate } from '../../identity/x509/certificate.ts';
import type { X509Svid } from '../../identity/x509-svid.ts';
import type { Debug } from '../../proto/gen/spire/api/server/debug/v1/debug_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { WatchedSource } from '../../runtime/watched.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { integer } from '../plugins/datastore/row.ts';
import type { EntryIndex } from '../registry/entry-index.ts';
import { idMessage } from '../registry/spiffe-id-message.ts';
import type { Caller } from './callers.ts';

export interface DebugServiceOptions {
  readonly reader: Reader;
  readonly index: EntryIndex;
  readonly clock: Clock;
  /** The server's own SVID. */
  readonly svid: WatchedSource<X509Svid>;
  /** The trust domain's own. */
  readonly bundle: WatchedSource<Bundle>;
}

/** SPIRE's debug API. */
export function debugService(options: DebugServiceOptions): Implementation<typeof Debug, Caller> {
  const { reader, index, clock, svid, bundle } = options;
  const startedMs = clock.monotonicMs();
  const count = async (table: 'agents' | 'federated_bundles') => {
    const row = await reader.get(`select count(*) as n from ${table}`);
    return row === undefined ? 0 : integer(row, 'n');
  };
  return {
    async getInfo() {
      return {
        svidChain: wholeChain(svid.value, bundle.value).map(certMessage),
        uptime: Math.floor((clock.monotonicMs() - startedMs) / 1000),
        agentsCount: await count('agents'),
        // As SPIRE, which counts the trust domain's own too.
        federatedBundlesCount: 1 + (await count('federated_bundles')),
        entriesCount: index.size,
      };
    },
  };
}

/** The chain that is shown to peers, and the authority at its end. */
function wholeChain({ chain }: X509Svid, bundle: Bundle): Uint8Array[] {
  const last = chain.at(-1);
  if (last === undefined) return [];
  const certificate = parseCertificate(last);
  const root = bundle.x509Authorities.find((one) => isIssuedBy(certificate, one.certificate));
  return root === undefined ? [...chain] : [...chain, root.der];
}

function certMessage(der: Uint8Array) {
  const { uriSans, notAfter } = parseCertificate(der);
  const [uri] = uriSans;
  return {
    ...(uri !== undefined && { id: idMessage(SpiffeId.parse(uri)) }),
    expiresAt: BigInt(Math.floor(notAfter.getTime() / 1000)),
    // The last part first, as RFC 4514 has it.
    subject: new X509Certificate(der).subject.split('\n').reverse().join(','),
  };
}
