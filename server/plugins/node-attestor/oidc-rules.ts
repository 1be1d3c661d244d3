/** Whether a verified token is of somebody whom the configuration lets in, and what it is then. */

import type { ClaimValue, OidcIssuerConfig } from './oidc-config.ts';
import { PRESETS } from './oidc-presets.ts';
import { denied } from './oidc-token.ts';

type Claims = Readonly<Record<string, unknown>>;

/** A claim that the rules name, with the value that the token has. */
export interface MatchedClaim {
  readonly name: string;
  readonly value: ClaimValue;
}

/**
 * The claims that the rules name, in the order of their names.
 * @throws Fault ATTESTATION_DENIED for a token that does not have one of them as the rules want it, and
 *   for one of a pull or merge request unless the rules name that
 */
export function matchRules(
  claims: Claims,
  { preset, claims: rules }: Pick<OidcIssuerConfig, 'preset' | 'claims'>,
): readonly MatchedClaim[] {
  const matched = Object.keys(rules)
    .sort()
    .map((name) => matchClaim(claims, name, [rules[name] ?? []].flat()));
  const { required, unreviewed } = PRESETS[preset];
  for (const name of required)
    if (typeof own(claims, name) !== 'string') throw denied(`claim ${name} is not there`);
  const telling = unreviewed(claims);
  const isNamed = telling.some((name) => Object.hasOwn(rules, name));
  if (telling.length > 0 && !isNamed)
    throw denied(`it is of a pull or merge request (${telling.join(', ')}), which no rule names`);
  return matched;
}

function matchClaim(claims: Claims, name: string, allowed: readonly ClaimValue[]): MatchedClaim {
  const value = own(claims, name);
  if (value === undefined) throw denied(`claim ${name} is not there`);
  const found = allowed.find((one) => one === value);
  if (found !== undefined) return { name, value: found };
  const isOfOtherType = allowed.some((one) => String(one) === String(value));
  throw denied(
    isOfOtherType
      ? `claim ${name} is a ${typeof value}, and the rule is not`
      : `claim ${name} has a value that no rule names`,
  );
}

function own(claims: Claims, name: string): unknown {
  return Object.hasOwn(claims, name) ? claims[name] : undefined;
}
