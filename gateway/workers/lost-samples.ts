import type { Samples } from '../../runtime/metrics.ts';

/** What processes had counted that are gone, so that no sum over all of them ever shrinks. */
export class LostSamples {
  readonly #gauges: ReadonlySet<string>;
  readonly #sums = new Map<string, Map<string, number>>();

  /** @param gauges names of the metrics that tell how things stand: of a process that is gone nothing stands */
  constructor(gauges: ReadonlySet<string>) {
    this.#gauges = gauges;
  }

  get samples(): Samples {
    return this.#sums;
  }

  add(samples: Samples): void {
    for (const [metric, values] of samples) {
      if (this.#gauges.has(metric)) continue;
      const sums = this.#sums.get(metric) ?? new Map<string, number>();
      this.#sums.set(metric, sums);
      for (const [name, value] of values) sums.set(name, (sums.get(name) ?? 0) + value);
    }
  }
}
