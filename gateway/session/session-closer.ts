import type { MessageInitShape } from '@bufbuild/protobuf';
import type { CloseSessionRequestSchema } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { Backoff } from '../../runtime/backoff.ts';
import type { Clock } from '../../runtime/clock.ts';
import { RpcError } from '../../runtime/grpc-client.ts';
import type { Logger } from '../../runtime/log.ts';
import type { GatewayApi } from '../access/gateway-api.ts';

export type CloseInit = MessageInitShape<typeof CloseSessionRequestSchema> & {
  readonly sessionId: string;
};

const MOST_WAITING = 10_000;
const AT_ONCE = 8;
/** Answers that asking again does not change. */
const FINAL: ReadonlySet<string> = new Set(['NOT_FOUND', 'INVALID_ARGUMENT']);

/** Tells the server how sessions ended, each until it has taken it. What is lost with the process a Hello tells. */
export class SessionCloser {
  readonly #options: {
    readonly api: () => GatewayApi;
    readonly clock: Clock;
    readonly log: Logger;
  };
  readonly #stopping = new AbortController();
  readonly #waiting: CloseInit[] = [];
  readonly #running = new Set<Promise<void>>();

  constructor(options: {
    readonly api: () => GatewayApi;
    readonly clock: Clock;
    readonly log: Logger;
  }) {
    this.#options = options;
  }

  close(request: CloseInit): void {
    if (this.#waiting.length >= MOST_WAITING) {
      const dropped = this.#waiting.shift();
      this.#options.log.error({ session_id: dropped?.sessionId }, 'end of session not told');
    }
    this.#waiting.push(request);
    this.#startNext();
  }

  /** Resolves once the server has all that was closed, or `signal` aborts: then the rest is given up. */
  async drain(signal: AbortSignal): Promise<void> {
    const giveUp = () => this.#stopping.abort();
    signal.addEventListener('abort', giveUp, { once: true });
    if (signal.aborted) giveUp();
    while (this.#running.size > 0) await Promise.all(this.#running);
    signal.removeEventListener('abort', giveUp);
  }

  #startNext(): void {
    if (this.#running.size >= AT_ONCE || this.#stopping.signal.aborted) return;
    const request = this.#waiting.shift();
    if (request === undefined) return;
    const task = this.#tell(request).finally(() => {
      this.#running.delete(task);
      this.#startNext();
    });
    this.#running.add(task);
  }

  async #tell(request: CloseInit): Promise<void> {
    const { api, clock, log } = this.#options;
    const { signal } = this.#stopping;
    const backoff = new Backoff({ firstMs: 100, maximumMs: 5000 });
    while (!signal.aborted) {
      try {
        await api().closeSession(request, { signal, timeoutMs: 5000 });
        return;
      } catch (error) {
        if (error instanceof RpcError && FINAL.has(error.status)) {
          log.warn({ session_id: request.sessionId, err: error }, 'end of session not accepted');
          return;
        }
        log.debug({ session_id: request.sessionId, err: error }, 'end of session not told yet');
      }
      await clock.wait(backoff.next(), signal).catch(() => undefined);
    }
  }
}
