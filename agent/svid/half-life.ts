import { randomInt } from 'node:crypto';

/**
 * When to replace what lives from `from` to `until`: at half its life, up to a tenth earlier or later,
 * so that what was issued together is not renewed together.
 */
export function halfLife(from: Date, until: Date): Date {
  const half = (until.getTime() - from.getTime()) / 2;
  return new Date(from.getTime() + half * (randomInt(900, 1101) / 1000));
}
