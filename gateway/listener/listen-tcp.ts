/**
 * A port whose clients prove themselves by the protocol's own login. Against strangers: a login has 20 s
 * in all, and those who have none yet are capped, in all and for each address, far below what is let in.
 */
import net from 'node:net';
import { ConnectionLimits } from '../../identity/connection-limits.ts';
import type { ConnectionRefusal } from '../../identity/tls.ts';
import { addressOf } from '../../identity/tls-peer.ts';
import { Fault } from '../../runtime/fault.ts';
import type { DeniedRequest } from '../access/gateway-audit.ts';
import type { TcpProtocol } from '../plugins/backend/backend.ts';
import type { HostPort, Listening } from './listen.ts';
import type { ServeOptions } from './serve-connection.ts';
import { TcpClient } from './tcp-client.ts';

export interface ListenTcpOptions extends ServeOptions {
  onRefused(refusal: ConnectionRefusal): void;
  /** A client that has proved who it is got nothing. */
  onDenied(request: DeniedRequest, reason: string): void;
}

/** Connections whose client has proved nothing yet: a CI host may well start a hundred at once. */
export const STRANGERS = { maximumPerAddress: 128, maximumConnections: 512 } as const;
/** All connections, as on the ports of `SvidServer`. */
const ALL = { maximumPerAddress: 1000, maximumConnections: 10_000 } as const;
const KEEP_ALIVE_MS = 60_000;

/** Opens a port where `protocol` itself proves its clients. @throws Fault STATE_UNUSABLE */
export async function listenTcp(
  protocol: TcpProtocol,
  at: HostPort,
  options: ListenTcpOptions,
): Promise<Listening> {
  const listener = new TcpListener(protocol, options);
  const address = await listener.listen(at);
  return { address, [Symbol.asyncDispose]: () => listener[Symbol.asyncDispose]() };
}

class TcpListener implements AsyncDisposable {
  readonly #protocol: TcpProtocol;
  readonly #options: ListenTcpOptions;
  readonly #strangers = new ConnectionLimits(STRANGERS);
  readonly #all = new ConnectionLimits(ALL);
  readonly #clients = new Map<Promise<void>, TcpClient>();
  readonly #server: net.Server;

  constructor(protocol: TcpProtocol, options: ListenTcpOptions) {
    this.#protocol = protocol;
    this.#options = options;
    const tcp = { noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS };
    this.#server = net.createServer(tcp, (socket) => this.#accept(socket));
    // An accept may fail, as when no descriptor is left: the client's loss, not the listener's end.
    this.#server.on('error', () => undefined);
  }

  async listen({ host, port }: HostPort): Promise<HostPort> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (cause: NodeJS.ErrnoException) => {
        const message = `cannot listen on ${host}:${port}: ${cause.code ?? 'unknown reason'}`;
        reject(new Fault('STATE_UNUSABLE', message, { cause }));
      });
      this.#server.listen({ host, port }, resolve);
    });
    const bound = this.#server.address();
    if (bound === null || typeof bound === 'string') throw new Error('not bound to a TCP port');
    return { host: bound.address, port: bound.port };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = this.#server.listening
      ? new Promise<void>((resolve) => this.#server.close(() => resolve()))
      : undefined;
    for (const client of this.#clients.values()) client.end();
    await Promise.all(this.#clients.keys());
    await closed;
  }

  #accept(socket: net.Socket): void {
    // A reset by the peer is an event of every day; 'close' follows.
    socket.on('error', () => undefined);
    const ip = addressOf(socket);
    const port = socket.localPort;
    if (ip === undefined || port === undefined) {
      socket.destroy();
      return;
    }
    const onRefused = (reason: string) => this.#options.onRefused({ address: ip, port, reason });
    const limit = this.#enter(socket, ip);
    if (limit !== undefined) {
      onRefused(limit);
      socket.destroy();
      return;
    }
    const onStrangerGone = () => this.#strangers.leave(ip);
    const client = new TcpClient({ ...this.#options, socket, ip, onRefused, onStrangerGone });
    const served = client.serve(this.#protocol).finally(() => this.#clients.delete(served));
    this.#clients.set(served, client);
  }

  /** Takes both places, or tells the limit that stands against it. */
  #enter(socket: net.Socket, ip: string): string | undefined {
    const full = this.#all.enter(ip);
    if (full !== undefined) return full;
    const crowded = this.#strangers.enter(ip);
    if (crowded === undefined) {
      socket.once('close', () => this.#all.leave(ip));
      return undefined;
    }
    this.#all.leave(ip);
    return `${crowded} without a login`;
  }
}
