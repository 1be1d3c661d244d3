import type { Bundle } from '../../identity/bundle.ts';
import { type ConnectionRefusal, type SecureConnection, SvidServer } from '../../identity/tls.ts';
import type { RevocationView } from '../../identity/x509/crl-view.ts';
import type { X509Svid } from '../../identity/x509-svid.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import type { WatchedSource } from '../../runtime/watched.ts';
import type { TlsProtocol } from '../plugins/backend/backend.ts';
import type { SessionDesk } from '../session/session-desk.ts';
import { serveConnection } from './serve-connection.ts';

export interface ListenOptions {
  readonly svid: WatchedSource<X509Svid>;
  readonly bundles: WatchedSource<Bundle>;
  /** What revocation lists say of clients; none are looked at unless told. */
  readonly revocation?: RevocationView;
  readonly desk: SessionDesk;
  readonly clock: Clock;
  readonly log: Logger;
  onRefused(refusal: ConnectionRefusal): void;
}

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** An open port. Disposing it takes no more clients and ends those that are there. */
export interface Listening extends AsyncDisposable {
  readonly address: HostPort;
}

/** Opens a port where clients must prove their SPIFFE ID before `protocol` sees them. @throws Fault */
export async function listen(
  protocol: TlsProtocol,
  at: HostPort,
  options: ListenOptions,
): Promise<Listening> {
  const { svid, bundles, clock, revocation } = options;
  const connections = new Map<Promise<void>, AbortController>();
  const server = new SvidServer({
    svid,
    bundles,
    clock,
    client: 'required',
    ...(revocation && { revocation }),
    alpn: protocol.alpn,
    preface: (socket, signal) => protocol.preface(socket, signal),
    onConnection: (connection) => accept(connection),
    onRefused: (refusal) => options.onRefused(refusal),
  });

  function accept(connection: SecureConnection): void {
    const { peer } = connection;
    if (peer === undefined) {
      connection.socket.destroy();
      return;
    }
    const controller = new AbortController();
    const served = serveConnection(
      protocol,
      Object.assign(connection, { peer }),
      options,
      controller.signal,
    ).finally(() => connections.delete(served));
    connections.set(served, controller);
  }

  const address = await server.listen(at.host, at.port);
  return {
    address,
    async [Symbol.asyncDispose]() {
      const closing = server[Symbol.asyncDispose]();
      for (const controller of connections.values()) controller.abort();
      await Promise.all(connections.keys());
      await closing;
    },
  };
}
