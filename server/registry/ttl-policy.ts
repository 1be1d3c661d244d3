import { Fault } from '../../runtime/fault.ts';
import type { IdentityKind, IdentityRecord } from './identity-records.ts';

/** What workloads get signed. */
export const CREDENTIALS = ['x509_svid', 'jwt_svid', 'ssh_certificate'] as const;
export type Credential = (typeof CREDENTIALS)[number];

type Maximum = `${Credential}_max`;

/** Longest lives, in seconds, for the identities of an environment and kind; left out, it holds for all. */
export interface TtlRule extends Readonly<Partial<Record<Maximum, number | undefined>>> {
  readonly environment?: string | undefined;
  readonly kind?: IdentityKind | undefined;
}

/** How long credentials may live, by what the identity record says. Of each maximum the rule that names most counts. */
export class TtlPolicy {
  readonly #rules: readonly TtlRule[];

  /** @throws Fault CONFIG_INVALID if two rules say different things of one identity */
  constructor(rules: readonly TtlRule[]) {
    const problem = ttlConflict(rules);
    if (problem !== undefined) throw new Fault('CONFIG_INVALID', `ttl_policy: ${problem}`);
    this.#rules = [...rules].sort((a, b) => specificity(b) - specificity(a));
  }

  /** The longest life of a credential in seconds; Infinity where no rule bounds it. */
  maximumSeconds(
    identity: Pick<IdentityRecord, 'environment' | 'kind'>,
    credential: Credential,
  ): number {
    const maximum = `${credential}_max` as const;
    const rule = this.#rules.find((one) => one[maximum] !== undefined && matches(one, identity));
    return rule?.[maximum] ?? Number.POSITIVE_INFINITY;
  }
}

/**
 * What makes a list of rules ambiguous: one said twice; or one for an environment and one for a kind, of
 * which neither is the more exact, without a third for both.
 */
export function ttlConflict(rules: readonly TtlRule[]): string | undefined {
  for (const credential of CREDENTIALS) {
    const maximum = `${credential}_max` as const;
    const bounding = rules.filter((one) => one[maximum] !== undefined);
    for (const [at, rule] of bounding.entries()) {
      for (const other of bounding.slice(0, at)) {
        const problem = conflictOf(rule, other, bounding);
        if (problem !== undefined) return `${maximum}: ${problem}`;
      }
    }
  }
  return undefined;
}

function conflictOf(a: TtlRule, b: TtlRule, all: readonly TtlRule[]): string | undefined {
  if (a.environment === b.environment && a.kind === b.kind) return `two rules for ${named(a)}`;
  if (specificity(a) !== 1 || specificity(b) !== 1) return undefined;
  const environment = a.environment ?? b.environment;
  const kind = a.kind ?? b.kind;
  // Two environments, or two kinds: no identity has both.
  if (environment === undefined || kind === undefined) return undefined;
  if (all.some((one) => one.environment === environment && one.kind === kind)) return undefined;
  return `${named(a)} and ${named(b)} both match an identity of both: write a rule for environment ${environment} and kind ${kind}`;
}

function named({ environment, kind }: TtlRule): string {
  const parts = [environment && `environment ${environment}`, kind && `kind ${kind}`];
  return parts.filter(Boolean).join(' and ') || 'every identity';
}

function specificity({ environment, kind }: TtlRule): number {
  return Number(environment !== undefined) + Number(kind !== undefined);
}

function matches(
  rule: TtlRule,
  { environment, kind }: Pick<IdentityRecord, 'environment' | 'kind'>,
) {
  return (
    (rule.environment === undefined || rule.environment === environment) &&
    (rule.kind === undefined || rule.kind === kind)
  );
}
