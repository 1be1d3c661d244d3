import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { SpiffeId, TrustDomain } from '../../../identity/spiffe-id.ts';
import type { SecureConnection } from '../../../identity/tls.ts';
import type { VerifiedSvid } from '../../../identity/verify.ts';
import type { Clock } from '../../../runtime/clock.ts';
import type { Logger } from '../../../runtime/log.ts';
import type { WatchedSource } from '../../../runtime/watched.ts';
import type { GatewayApi } from '../../access/gateway-api.ts';
import type { DeniedRequest } from '../../access/gateway-audit.ts';
import type { GatewaySnapshot } from '../../access/snapshot.ts';
import type { FetchJwtSvid } from '../../credentials/vault/vault-token.ts';
import type { GatewayMetrics } from '../../metrics.ts';
import type { SessionDesk } from '../../session/session-desk.ts';
import type { Peers } from '../../workers/peers.ts';

/** Speaks one protocol between clients and their backends. Kind: Backend. */
export type BackendProtocol = TlsProtocol | TcpProtocol;

interface Protocol<C> extends AsyncDisposable {
  /** Name in configuration, in snake_case. */
  readonly type: string;

  /** Called once, before the first connection: background work begins here and ends at disposal. */
  start(context: BackendContext): Promise<void>;

  /**
   * Serves one client from its first byte (over TLS: its first decrypted one) to the end of its
   * connection. Must not reject, and must end its session within 750 ms of the abort of the session's
   * signal or its own: then the socket goes.
   */
  serve(connection: C, desk: SessionDesk, signal: AbortSignal): Promise<void>;
}

/** A protocol whose clients prove themselves by TLS, before it sees them. */
export interface TlsProtocol extends Protocol<ClientConnection> {
  readonly transport: 'tls';

  /** ALPN names of the protocol over direct TLS. */
  readonly alpn: readonly string[];

  /**
   * Reads what a client sends before its ClientHello and takes no byte more.
   * @returns `done` when it has answered and closed the connection itself
   */
  preface(socket: Socket, signal: AbortSignal): Promise<'tls' | 'done'>;
}

/** A protocol with a login of its own: it sees strangers, and proves them itself. */
export interface TcpProtocol extends Protocol<TcpConnection> {
  readonly transport: 'tcp';
}

/** A connection whose client has proved its SPIFFE ID. */
export type ClientConnection = SecureConnection & { readonly peer: VerifiedSvid };

/** A connection of somebody who has proved nothing yet, and has 20 s for it. */
export interface TcpConnection {
  readonly socket: Socket;
  /** `ip:port` of the client. */
  readonly address: string;
  readonly ip: string;

  /** Lifts the limits for those who have proved nothing yet. Idempotent. */
  authenticated(): void;

  /**
   * One event and log line: why a client that has proved nothing was refused. That it took too long or
   * left without a login need not be said.
   * @param reason one of a closed set, without a word of the client's
   */
  refused(reason: string): void;

  /** The same of a client that has proved who it is; `desk.open` tells of its own refusals. */
  denied(request: DeniedRequest, reason: string): void;

  /**
   * Serves a connection that runs inside of this one, as one of its own: with a desk whose sessions end
   * with it, and whose sessions' end costs the stream in place of the socket.
   */
  serveWithin(
    stream: Duplex,
    serve: (desk: SessionDesk, signal: AbortSignal) => Promise<void>,
  ): Promise<void>;
}

export interface BackendContext {
  readonly snapshot: WatchedSource<GatewaySnapshot>;
  readonly gatewayId: SpiffeId;
  /** Where several processes serve the gateway's clients. */
  readonly peers?: Peers;
  readonly trustDomain: TrustDomain;
  /** The server, on the newest channel. */
  readonly api: () => GatewayApi;
  /** The gateway's own JWT-SVID for an audience. */
  readonly jwtSvid: FetchJwtSvid;
  readonly log: Logger;
  readonly clock: Clock;
  readonly metrics: GatewayMetrics;
  /** Aborts when the gateway stops. */
  readonly signal: AbortSignal;
  /** 0700; a protocol keeps its files under its own type's name. */
  readonly stateDir: string;
}
