import type { Socket } from 'node:net';
import type { SpiffeId } from '../../../identity/spiffe-id.ts';
import type { SecureConnection } from '../../../identity/tls.ts';
import type { VerifiedSvid } from '../../../identity/verify.ts';
import type { Clock } from '../../../runtime/clock.ts';
import type { Logger } from '../../../runtime/log.ts';
import type { WatchedSource } from '../../../runtime/watched.ts';
import type { GatewaySnapshot } from '../../access/snapshot.ts';
import type { GatewayMetrics } from '../../metrics.ts';
import type { SessionDesk } from '../../session/session-desk.ts';

/** A connection whose client has proved its SPIFFE ID. */
export type ClientConnection = SecureConnection & { readonly peer: VerifiedSvid };

/** Speaks one protocol between clients and their backends. Kind: Backend. */
export interface BackendProtocol extends AsyncDisposable {
  /** Name in configuration, in snake_case. */
  readonly type: string;

  /** ALPN names of the protocol over direct TLS. */
  readonly alpn: readonly string[];

  /**
   * Reads what a client sends before its ClientHello and takes no byte more.
   * @returns `done` when it has answered and closed the connection itself
   */
  preface(socket: Socket, signal: AbortSignal): Promise<'tls' | 'done'>;

  /** Called once, before the first connection: background work begins here and ends at disposal. */
  start(context: BackendContext): Promise<void>;

  /**
   * Serves one client from its first decrypted byte to the end of its connection. Must not reject, and
   * must end its session within 750 ms of the abort of the session's signal or its own: then the socket goes.
   */
  serve(connection: ClientConnection, desk: SessionDesk, signal: AbortSignal): Promise<void>;
}

export interface BackendContext {
  readonly snapshot: WatchedSource<GatewaySnapshot>;
  readonly gatewayId: SpiffeId;
  readonly log: Logger;
  readonly clock: Clock;
  readonly metrics: GatewayMetrics;
  /** Aborts when the gateway stops. */
  readonly signal: AbortSignal;
  /** 0700; a protocol keeps its files under its own type's name. */
  readonly stateDir: string;
}
