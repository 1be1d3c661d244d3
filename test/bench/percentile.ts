/** The value below which that share of the values lies. */
export function percentile(values: readonly number[], rank: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * rank) - 1)] ?? Number.NaN;
}

/** A percentile of milliseconds, ready to print. */
export function show(values: readonly number[], rank: number): string {
  return `${percentile(values, rank).toFixed(0)} ms`;
}

export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}
