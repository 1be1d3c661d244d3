import { homedir } from 'node:os';
import { join } from 'node:path';
import type { DescService } from '@bufbuild/protobuf';
import { type Client, RpcChannel } from '../runtime/grpc-client.ts';

/** Where `writ up` keeps its state unless told otherwise. */
export function defaultStateDir(): string {
  if (process.getuid?.() === 0) return '/var/lib/writ';
  const state = process.env.XDG_STATE_HOME ?? join(homedir(), '.local/state');
  return join(state, 'writ');
}

/** `WRIT_ADMIN_SOCKET`, or the socket of `writ up`'s server. */
export function defaultAdminSocket(): string {
  return process.env.WRIT_ADMIN_SOCKET ?? join(defaultStateDir(), 'server/admin.sock');
}

/** The server's admin socket, opened when the first service is asked for. */
export class AdminConnection implements AsyncDisposable {
  readonly #path: string;
  #channel: RpcChannel | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  client<S extends DescService>(service: S): Client<S> {
    this.#channel ??= RpcChannel.unix(this.#path);
    return this.#channel.client(service);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#channel?.[Symbol.asyncDispose]();
  }
}
