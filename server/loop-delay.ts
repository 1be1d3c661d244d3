import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import type { Clock } from '../runtime/clock.ts';
import type { Gauge } from '../runtime/metrics.ts';

/** Of the timer whose lateness is measured; part of each figure, which so is never too small. */
const TICK_MS = 5;
const SECOND_MS = 1000;
const SECONDS_A_MINUTE = 60;

export interface LoopDelayOptions {
  readonly clock: Pick<Clock, 'wait'>;
  /** In seconds. */
  readonly gauge: Gauge<'window'>;
}

/** Shows how long one turn of the event loop has kept all others waiting, over two windows. */
export class LoopDelay implements AsyncDisposable {
  readonly #options: LoopDelayOptions;
  readonly #histogram: IntervalHistogram = monitorEventLoopDelay({ resolution: TICK_MS });
  /** Of the last seconds, the newest last. */
  readonly #longest: number[] = [];
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  constructor(options: LoopDelayOptions) {
    this.#options = options;
    this.#histogram.enable();
    this.#running = this.#run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    this.#histogram.disable();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await this.#options.clock.wait(SECOND_MS, signal).catch(() => undefined);
      this.#show();
    }
  }

  #show(): void {
    const { gauge } = this.#options;
    // Nothing was late if no tick came to be counted.
    const longest = this.#histogram.count === 0 ? 0 : this.#histogram.max / 1e9;
    this.#histogram.reset();
    this.#longest.push(longest);
    if (this.#longest.length > SECONDS_A_MINUTE) this.#longest.shift();
    gauge.set(longest, { window: '1s' });
    gauge.set(Math.max(...this.#longest), { window: '1m' });
  }
}
