/** Tokens of a fake Vault: made by a login, renewed up to their maximum, and what they made ends with them. */
import { randomBytes, randomUUID } from 'node:crypto';
import type { Clock } from '../../runtime/clock.ts';
import { badToken, denied } from './vault-errors.ts';

export interface TokenWish {
  /** 0: it never ends. */
  readonly ttlSeconds: number;
  readonly maxTtlSeconds?: number;
  readonly renewable?: boolean;
  /** Paths it may use, where `*` at the end stands for anything. */
  readonly paths: readonly string[];
  readonly policies?: readonly string[];
}

export interface FakeToken extends Required<Omit<TokenWish, 'maxTtlSeconds'>> {
  readonly text: string;
  readonly accessor: string;
  readonly madeAtMs: number;
  readonly maxTtlSeconds: number;
  endsAtMs: number;
}

/** What the policy `default` of a real server allows. */
const DEFAULT_PATHS = [
  'auth/token/lookup-self',
  'auth/token/renew-self',
  'auth/token/revoke-self',
  'sys/leases/lookup',
  'sys/leases/renew',
];

export class FakeTokens {
  readonly #clock: Clock;
  readonly #tokens = new Map<string, FakeToken>();
  readonly #onEnd: (token: FakeToken) => Promise<void>;

  constructor(clock: Clock, onEnd: (token: FakeToken) => Promise<void>) {
    this.#clock = clock;
    this.#onEnd = onEnd;
  }

  get living(): readonly FakeToken[] {
    return [...this.#tokens.values()];
  }

  create(wish: TokenWish): FakeToken {
    const { ttlSeconds, maxTtlSeconds = 32 * 24 * 3600 } = wish;
    const now = this.#clock.monotonicMs();
    const token: FakeToken = {
      text: `hvs.${randomBytes(18).toString('base64url')}`,
      accessor: randomBytes(12).toString('base64url'),
      renewable: ttlSeconds !== 0,
      policies: ['default'],
      ...wish,
      maxTtlSeconds,
      madeAtMs: now,
      endsAtMs: ttlSeconds === 0 ? Number.POSITIVE_INFINITY : now + ttlSeconds * 1000,
    };
    this.#tokens.set(token.text, token);
    return token;
  }

  /** @throws VaultRefusal 403 */
  authorise(text: string | undefined, path: string): FakeToken {
    if (text === undefined) throw denied();
    const token = this.#tokens.get(text);
    if (token === undefined) throw badToken();
    const isAllowed = [...DEFAULT_PATHS, ...token.paths].some((allowed) =>
      allowed.endsWith('*') ? path.startsWith(allowed.slice(0, -1)) : path === allowed,
    );
    if (!isAllowed) throw denied();
    return token;
  }

  renew(token: FakeToken, incrementSeconds: number): FakeToken {
    const now = this.#clock.monotonicMs();
    const wanted = now + (incrementSeconds || token.ttlSeconds) * 1000;
    const latest = token.madeAtMs + token.maxTtlSeconds * 1000;
    if (token.renewable) token.endsAtMs = Math.min(wanted, latest);
    return token;
  }

  async revoke(token: FakeToken): Promise<void> {
    this.#tokens.delete(token.text);
    await this.#onEnd(token);
  }

  /** Ends those whose time is over. */
  async expire(): Promise<void> {
    const now = this.#clock.monotonicMs();
    for (const token of this.living) if (token.endsAtMs <= now) await this.revoke(token);
  }

  /** As a login and a renewal tell of it. */
  describe(token: FakeToken): object {
    return {
      client_token: token.text,
      accessor: token.accessor,
      policies: token.policies,
      token_policies: token.policies,
      metadata: null,
      lease_duration: this.#ttl(token),
      renewable: token.renewable,
      entity_id: randomUUID(),
      token_type: 'service',
      orphan: true,
      mfa_requirement: null,
      num_uses: 0,
    };
  }

  /** As `lookup-self` tells of it. */
  lookup(token: FakeToken): object {
    return {
      id: token.text,
      accessor: token.accessor,
      policies: token.policies,
      ttl: this.#ttl(token),
      creation_ttl: token.ttlSeconds,
      explicit_max_ttl: 0,
      renewable: token.renewable,
      orphan: true,
      type: 'service',
      num_uses: 0,
      meta: null,
      path: 'auth/token/create',
    };
  }

  #ttl({ endsAtMs }: FakeToken): number {
    if (endsAtMs === Number.POSITIVE_INFINITY) return 0;
    return Math.max(0, Math.round((endsAtMs - this.#clock.monotonicMs()) / 1000));
  }
}
