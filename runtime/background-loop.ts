import type { Clock } from './clock.ts';
import type { Logger } from './log.ts';

export interface BackgroundLoopOptions {
  /**
   * Does what is due.
   * @returns milliseconds until it is to be called again
   */
  turn(signal: AbortSignal): Promise<number>;
  readonly clock: Clock;
  readonly log: Logger;
  /** What the log says of a turn that failed. */
  readonly failure: string;
  /** Milliseconds from a turn that failed to the next. */
  retryMs(): number;
}

/** Calls a function over and over, whatever comes of it, until it is disposed. The first turn begins at once. */
export class BackgroundLoop implements AsyncDisposable {
  readonly #options: BackgroundLoopOptions;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  constructor(options: BackgroundLoopOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const pauseMs = await this.#turn(signal);
      await clock.wait(pauseMs, signal).catch(() => undefined);
    }
  }

  async #turn(signal: AbortSignal): Promise<number> {
    const { turn, log, failure, retryMs } = this.#options;
    try {
      return await turn(signal);
    } catch (error) {
      if (!signal.aborted) log.error({ err: error }, failure);
      return retryMs();
    }
  }
}
