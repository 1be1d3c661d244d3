import type { SecureConnection } from '../identity/tls.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Logger } from '../runtime/log.ts';
import type { WatchedSource } from '../runtime/watched.ts';
import { claimedKind, type ServerPeer } from './api/callers.ts';

export interface GatewayConnectionsOptions {
  /** Position of the newest revocation. */
  readonly revocations: WatchedSource<bigint>;
  readonly clock: Clock;
  readonly log: Logger;
  /** @throws Fault if the peer's claim does not hold any more */
  prove(peer: ServerPeer): Promise<unknown>;
}

/** So that a gateway that loses its own right still hears which sessions end with it. */
const LAST_WORDS_MS = 200;

/**
 * A gateway's stream lasts for days, and the guard sees only its start: after each revocation every
 * gateway proves itself again, and one that cannot is cut off, whereupon it goes stale.
 */
export class GatewayConnections implements AsyncDisposable {
  readonly #options: GatewayConnectionsOptions;
  readonly #connections = new Set<SecureConnection>();
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  constructor(options: GatewayConnectionsOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  /** Watches a connection if it claims to be a gateway's. */
  add(connection: SecureConnection): void {
    if (claimedKind({ kind: 'remote', connection }) !== 'gateway') return;
    this.#connections.add(connection);
    connection.socket.once('close', () => this.#connections.delete(connection));
  }

  /** Ends the connections of one gateway. */
  disconnect(id: string): void {
    for (const { peer, socket } of this.#connections)
      if (peer?.id.toString() === id) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, revocations } = this.#options;
    const { signal } = this.#stop;
    for await (const _ of revocations.values(signal)) {
      await clock.wait(LAST_WORDS_MS, signal).catch(() => undefined);
      if (signal.aborted) return;
      for (const connection of [...this.#connections]) await this.#recheck(connection);
    }
  }

  async #recheck(connection: SecureConnection): Promise<void> {
    try {
      await this.#options.prove({ kind: 'remote', connection });
    } catch (error) {
      const spiffeId = connection.peer?.id.toString();
      this.#options.log.warn({ spiffe_id: spiffeId, err: error }, 'gateway cut off');
      connection.socket.destroy();
    }
  }
}
