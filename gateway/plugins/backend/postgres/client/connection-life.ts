import type { Socket } from 'node:net';
import { Fault } from '../../../../../runtime/fault.ts';

/** One signal for a connection: it aborts with its client, with the gateway, or with its session. */
export class ConnectionLife implements Disposable {
  readonly #controller = new AbortController();
  readonly #unlink: (() => void)[] = [];

  constructor(socket: Socket, signal: AbortSignal) {
    const gone = () => this.#controller.abort(new Fault('UNAVAILABLE', 'the client has gone'));
    socket.on('close', gone);
    this.#unlink.push(() => socket.removeListener('close', gone));
    if (socket.destroyed) gone();
    this.follow(signal);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  follow(signal: AbortSignal, onAbort?: (fault: Fault) => void): void {
    const abort = () => {
      const fault = stopReason(signal);
      this.#controller.abort(fault);
      onAbort?.(fault);
    };
    signal.addEventListener('abort', abort);
    this.#unlink.push(() => signal.removeEventListener('abort', abort));
    if (signal.aborted) abort();
  }

  [Symbol.dispose](): void {
    for (const unlink of this.#unlink.splice(0)) unlink();
  }
}

function stopReason({ reason }: AbortSignal): Fault {
  return reason instanceof Fault ? reason : new Fault('UNAVAILABLE', 'the gateway is stopping');
}
