const LONGEST = 500;

/**
 * What the gateway itself says to a client, in one line of its terminal: operators, servers and targets
 * have their words in it.
 */
export function notice(text: string): string {
  return `writ: ${text.slice(0, LONGEST).replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ')}`;
}
