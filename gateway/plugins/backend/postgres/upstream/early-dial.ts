import type { Socket } from 'node:net';
import { type BackendAddress, dialBackend } from './dial.ts';

/**
 * The connection for one login, made while its role is opened: the backend's process starts meanwhile.
 * Disposing it closes what nobody took.
 */
export class EarlyDial implements Disposable {
  readonly #address: BackendAddress;
  readonly #stop = new AbortController();
  #dialing: Promise<Socket> | undefined;
  #taken = false;

  constructor(address: BackendAddress) {
    this.#address = address;
  }

  /** Begins; a second call does nothing. */
  start(): Promise<Socket> {
    if (this.#dialing === undefined) {
      this.#dialing = dialBackend(this.#address, this.#stop.signal);
      // Who takes it is told of a failure; nobody need take it.
      this.#dialing.catch(() => undefined);
    }
    return this.#dialing;
  }

  /** @throws Fault BACKEND_FAILED, or the signal's reason when it aborts before */
  async take(signal: AbortSignal): Promise<Socket> {
    this.#taken = true;
    const abort = () => this.#stop.abort(signal.reason);
    signal.addEventListener('abort', abort);
    if (signal.aborted) abort();
    try {
      return await this.start();
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  [Symbol.dispose](): void {
    if (this.#taken) return;
    this.#stop.abort();
    this.#dialing?.then(
      (socket) => socket.destroy(),
      () => undefined,
    );
  }
}
