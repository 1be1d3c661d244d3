import type { Socket } from 'node:net';
import { type BackendAddress, dialBackend } from './dial.ts';

interface Dialing {
  readonly address: BackendAddress;
  readonly stop: AbortController;
  readonly socket: Promise<Socket>;
}

/**
 * The connection for one login, made while its role is opened: the backend's process starts meanwhile.
 * Disposing it closes what nobody took.
 */
export class EarlyDial implements Disposable {
  #under: Dialing | undefined;

  /** Begins; a second call with the same address does nothing, one with another begins anew. */
  start(address: BackendAddress): Promise<Socket> {
    return this.#begin(address).socket;
  }

  /** @throws Fault BACKEND_FAILED, or the signal's reason when it aborts before */
  async take(address: BackendAddress, signal: AbortSignal): Promise<Socket> {
    const { stop, socket } = this.#begin(address);
    this.#under = undefined;
    const abort = () => stop.abort(signal.reason);
    signal.addEventListener('abort', abort);
    if (signal.aborted) abort();
    try {
      return await socket;
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  [Symbol.dispose](): void {
    const { stop, socket } = this.#under ?? {};
    this.#under = undefined;
    stop?.abort();
    socket?.then(
      (opened) => opened.destroy(),
      () => undefined,
    );
  }

  #begin(address: BackendAddress): Dialing {
    if (this.#under?.address === address) return this.#under;
    this[Symbol.dispose]();
    const stop = new AbortController();
    const socket = dialBackend(address, stop.signal);
    // Who takes it is told of a failure; nobody need take it.
    socket.catch(() => undefined);
    this.#under = { address, stop, socket };
    return this.#under;
  }
}
