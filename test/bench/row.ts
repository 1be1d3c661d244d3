import type { RunningUp } from '../fixtures/writ-up.ts';

export interface BenchOptions {
  /** Length of one measured stretch. */
  readonly seconds: number;
  readonly revocations: number;
}

/** One row of the benchmark: measures beside a peer and returns the lines to print. */
export type Row = (up: () => Promise<RunningUp>, options: BenchOptions) => Promise<string[]>;
