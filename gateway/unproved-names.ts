import { X509Certificate } from 'node:crypto';
import type { X509Svid } from '../identity/x509-svid.ts';
import type { Logger } from '../runtime/log.ts';
import type { WatchedSource } from '../runtime/watched.ts';
import type { GatewaySnapshot } from './access/snapshot.ts';

export interface UnprovedName {
  readonly backend: string;
  readonly serverName: string;
}

/** Server names of backends that a certificate does not carry: clients that verify would not go on. */
export function unprovedNames(
  { backends }: Pick<GatewaySnapshot, 'backends'>,
  { chain }: Pick<X509Svid, 'chain'>,
): UnprovedName[] {
  const [leaf] = chain;
  if (leaf === undefined) throw new Error('an X509-SVID without a certificate');
  const certificate = new X509Certificate(leaf);
  return [...backends.values()].flatMap(({ name: backend, type }) =>
    (type.case === 'postgres' ? type.value.serverNames : [])
      .filter((serverName) => certificate.checkHost(serverName) === undefined)
      .map((serverName) => ({ backend, serverName })),
  );
}

/** Logs each such name once, as the server tells of its backend. */
export function warnOfUnprovedNames(options: {
  readonly snapshot: WatchedSource<GatewaySnapshot>;
  readonly svid: WatchedSource<X509Svid>;
  readonly log: Logger;
}): AsyncDisposable {
  const { snapshot, svid, log } = options;
  const stop = new AbortController();
  const said = new Set<string>();
  const watch = async () => {
    for await (const current of snapshot.values(stop.signal)) {
      for (const { backend, serverName } of unprovedNames(current, svid.value)) {
        if (said.has(serverName)) continue;
        said.add(serverName);
        log.warn(
          { backend, server_name: serverName },
          "a backend's server name is not in the gateway's certificate: clients that verify it are lost",
        );
      }
    }
  };
  const watching = watch();
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      await watching;
    },
  };
}
