import { isIPv6, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { DeniedRequest } from '../access/gateway-audit.ts';
import type { TcpConnection, TcpProtocol } from '../plugins/backend/backend.ts';
import type { SessionDesk } from '../session/session-desk.ts';
import { type ServeOptions, serveConnection } from './serve-connection.ts';

export interface TcpClientOptions extends ServeOptions {
  readonly socket: Socket;
  readonly ip: string;
  /** Gives the place of one who has proved nothing to another; called once, at the login or the close. */
  onStrangerGone(): void;
  onRefused(reason: string): void;
  onDenied(request: DeniedRequest, reason: string): void;
}

const LOGIN_GRACE_MS = 20_000;

/**
 * One client of a protocol with a login of its own. Its time as a stranger ends by a login, by the end of
 * its grace or by its close; if by none of them anybody was told why, this tells.
 */
export class TcpClient implements TcpConnection {
  readonly socket: Socket;
  readonly address: string;
  readonly ip: string;
  readonly #options: TcpClientOptions;
  readonly #known = new AbortController();
  readonly #ending = new AbortController();
  readonly #inner = new Map<Promise<void>, Duplex>();
  #isTold = false;
  #isOver = false;

  constructor(options: TcpClientOptions) {
    const { socket, ip, clock } = options;
    this.#options = options;
    this.socket = socket;
    this.ip = ip;
    this.address = `${isIPv6(ip) ? `[${ip}]` : ip}:${socket.remotePort}`;
    socket.once('close', () => this.#closed());
    clock.wait(LOGIN_GRACE_MS, this.#known.signal).then(
      () => {
        this.refused(`no login within ${LOGIN_GRACE_MS / 1000} s`);
        socket.destroy();
      },
      () => undefined,
    );
  }

  /** Resolves when nothing of it is left, inner connections included. */
  async serve(protocol: Pick<TcpProtocol, 'serve'>): Promise<void> {
    const desk: SessionDesk = {
      open: (request) => {
        // Whom the desk refuses it tells of.
        this.#isTold = true;
        return this.#options.desk.open(request);
      },
    };
    await serveConnection(protocol, this, { ...this.#options, desk }, this.#ending.signal);
    this.#isOver = true;
    for (const stream of this.#inner.values()) stream.destroy();
    await Promise.all(this.#inner.keys());
  }

  /** Ends it from this side. */
  end(): void {
    this.#isTold = true;
    this.#ending.abort();
  }

  authenticated(): void {
    if (this.#known.signal.aborted || this.socket.destroyed) return;
    this.#known.abort();
    this.#options.onStrangerGone();
  }

  refused(reason: string): void {
    this.#isTold = true;
    this.#options.onRefused(reason);
  }

  denied(request: DeniedRequest, reason: string): void {
    this.#isTold = true;
    this.#options.onDenied(request, reason);
  }

  async serveWithin(
    socket: Duplex,
    serve: (desk: SessionDesk, signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    if (this.#isOver) {
      socket.destroy();
      return;
    }
    const served = serveConnection(
      { serve: (_, desk, signal) => serve(desk, signal) },
      { socket, address: this.address },
      this.#options,
      this.#ending.signal,
    ).finally(() => this.#inner.delete(served));
    this.#inner.set(served, socket);
    await served;
  }

  #closed(): void {
    if (this.#known.signal.aborted) return;
    this.#known.abort();
    this.#options.onStrangerGone();
    if (!this.#isTold) this.#options.onRefused('closed before the login ended');
  }
}
