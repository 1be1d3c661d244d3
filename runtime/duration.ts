import { Fault } from './fault.ts';

const UNIT_SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;
const DURATION = /^([1-9]\d{0,8})([smhd])$/;

/**
 * Seconds in a duration such as `90s`, `10m`, `2h` or `30d`.
 * @param name what the message calls the value, e.g. `--ttl`
 * @throws Fault USAGE
 */
export function parseDuration(text: string, name: string, maximumSeconds: number): number {
  const match = DURATION.exec(text);
  const unit = match?.[2] as keyof typeof UNIT_SECONDS | undefined;
  const seconds = unit === undefined ? Number.NaN : Number(match?.[1]) * UNIT_SECONDS[unit];
  if (seconds <= maximumSeconds) return seconds;
  const most = formatDuration(maximumSeconds);
  throw new Fault(
    'USAGE',
    `${name} ${JSON.stringify(text)}: write a duration up to ${most}, such as 90s, 10m or 2h`,
  );
}

/** The shortest form that `parseDuration` reads back. */
export function formatDuration(seconds: number): string {
  for (const unit of ['d', 'h', 'm'] as const) {
    if (seconds >= UNIT_SECONDS[unit] && seconds % UNIT_SECONDS[unit] === 0) {
      return `${seconds / UNIT_SECONDS[unit]}${unit}`;
    }
  }
  return `${seconds}s`;
}
