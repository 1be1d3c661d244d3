/**
 * The PostgreSQL backend: a client with an X509-SVID gets a role of its own in the backend for as long
 * as its session lives, and every statement is judged and recorded on its way there.
 */
import { isIP, type Socket } from 'node:net';
import type { SessionDesk } from '../../../session/session-desk.ts';
import type { BackendContext, ClientConnection, TlsProtocol } from '../backend.ts';
import { CancelRegistry } from './client/cancel.ts';
import { serveClient } from './client/serve-client.ts';
import { readPreface } from './client/startup.ts';
import { StatementReader } from './statements/statement.ts';
import { BackendSet } from './upstream/backend-set.ts';
import { LoginRotations } from './upstream/login-rotations.ts';

/** Speaks PostgreSQL's protocol 3.0 to clients and backends. */
export function postgresBackend(): TlsProtocol {
  let running: Running | undefined;
  const started = (): Running => {
    if (running === undefined) throw new Error('not started');
    return running;
  };
  return {
    type: 'postgres',
    transport: 'tls',
    alpn: ['postgresql'],
    preface: (socket, signal) => started().preface(socket, signal),
    serve: (connection, desk, signal) => started().serve(connection, desk, signal),
    async start(context) {
      await StatementReader.load();
      running = new Running(context);
    },
    async [Symbol.asyncDispose]() {
      await running?.[Symbol.asyncDispose]();
    },
  };
}

class Running implements AsyncDisposable {
  readonly #context: BackendContext;
  readonly #backends: BackendSet;
  readonly #cancels: CancelRegistry;
  readonly #rotations: LoginRotations;
  readonly #stop = new AbortController();
  readonly #following: Promise<void>;

  constructor(context: BackendContext) {
    this.#context = context;
    this.#backends = new BackendSet(context);
    this.#cancels = new CancelRegistry(context.clock, context.peers);
    this.#rotations = new LoginRotations(context);
    this.#rotations.start();
    this.#following = this.#follow();
  }

  preface(socket: Socket, signal: AbortSignal): Promise<'tls' | 'done'> {
    const clientAddress = plainAddress(socket.remoteAddress ?? '');
    return readPreface(socket, {
      signal,
      cancel: (packet) => this.#cancels.cancel(packet, { clientAddress }, signal),
    });
  }

  async serve(connection: ClientConnection, desk: SessionDesk, signal: AbortSignal): Promise<void> {
    const { snapshot, clock, metrics, log } = this.#context;
    await serveClient(connection, {
      desk,
      signal,
      snapshot,
      clock,
      metrics,
      log,
      backendNamed: (name, database) => this.#backends.get(name, database),
      cancels: this.#cancels,
      clientAddress: plainAddress(connection.address.replace(/:\d+$/, '')),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#following;
    await this.#rotations[Symbol.asyncDispose]();
    await this.#backends[Symbol.asyncDispose]();
  }

  async #follow(): Promise<void> {
    const { snapshot, log } = this.#context;
    for await (const current of snapshot.values(this.#stop.signal)) {
      try {
        this.#backends.follow(current);
      } catch (error) {
        log.error({ err: error }, 'backends of the snapshot could not be taken up');
      }
    }
  }
}

/** An IPv4 client of a dual-stack port is the same client. */
function plainAddress(address: string): string {
  const bare = address.replace(/^\[(.*)\]$/, '$1').replace(/^::ffff:/i, '');
  return isIP(bare) === 0 ? address : bare;
}
