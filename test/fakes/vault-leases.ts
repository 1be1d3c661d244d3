/** Leases of a fake Vault. */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../../runtime/clock.ts';
import { invalid } from './vault-errors.ts';

export interface LeaseTerms {
  readonly ttlSeconds: number;
  readonly maxTtlSeconds: number;
  /** Told of a renewal before it is answered. */
  renewed(endsAt: Date): Promise<void>;
  /** Takes back what was lent. */
  ended(): Promise<void>;
}

interface FakeLease extends LeaseTerms {
  readonly id: string;
  /** The token that it ends with. */
  readonly madeBy: string;
  readonly madeAtMs: number;
  readonly issuedAt: Date;
  endsAtMs: number;
  renewedAt: Date | undefined;
}

export class FakeLeases {
  readonly #clock: Clock;
  readonly #leases = new Map<string, FakeLease>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get ids(): readonly string[] {
    return [...this.#leases.keys()];
  }

  /** @returns the fields that the answer to the request has beside its data */
  create(path: string, madeBy: string, terms: LeaseTerms): object {
    const now = this.#clock.monotonicMs();
    const id = `${path}/${randomBytes(12).toString('hex')}`;
    const endsAtMs = now + Math.min(terms.ttlSeconds, terms.maxTtlSeconds) * 1000;
    const issuedAt = this.#clock.now();
    const at = { madeAtMs: now, issuedAt, endsAtMs, renewedAt: undefined };
    this.#leases.set(id, { ...terms, id, madeBy, ...at });
    return { lease_id: id, renewable: true, lease_duration: terms.ttlSeconds };
  }

  async renew(id: unknown, incrementSeconds: number): Promise<object> {
    const lease = this.#named(id);
    const now = this.#clock.monotonicMs();
    const wantedMs = now + (incrementSeconds || lease.ttlSeconds) * 1000;
    const endsAtMs = Math.min(wantedMs, lease.madeAtMs + lease.maxTtlSeconds * 1000);
    await lease.renewed(new Date(this.#clock.now().getTime() + endsAtMs - now));
    lease.endsAtMs = endsAtMs;
    lease.renewedAt = this.#clock.now();
    return { lease_id: lease.id, renewable: true, lease_duration: this.#ttl(lease) };
  }

  async revoke(id: unknown): Promise<void> {
    const lease = this.#named(id);
    this.#leases.delete(lease.id);
    await lease.ended();
  }

  lookup(id: unknown): object {
    const lease = this.#named(id);
    return {
      data: {
        id: lease.id,
        issue_time: lease.issuedAt.toISOString(),
        expire_time: new Date(lease.issuedAt.getTime() + lease.endsAtMs - lease.madeAtMs),
        last_renewal: lease.renewedAt ?? null,
        renewable: true,
        ttl: this.#ttl(lease),
      },
    };
  }

  /** Ends those whose time is over. */
  async expire(): Promise<void> {
    const now = this.#clock.monotonicMs();
    const over = [...this.#leases.values()].filter(({ endsAtMs }) => endsAtMs <= now);
    for (const lease of over) await this.revoke(lease.id);
  }

  async endOf(token: string): Promise<void> {
    const its = [...this.#leases.values()].filter(({ madeBy }) => madeBy === token);
    for (const lease of its) await this.revoke(lease.id);
  }

  #named(id: unknown): FakeLease {
    const lease = typeof id === 'string' ? this.#leases.get(id) : undefined;
    if (lease === undefined) throw invalid('lease not found');
    return lease;
  }

  #ttl({ endsAtMs }: FakeLease): number {
    return Math.max(0, Math.round((endsAtMs - this.#clock.monotonicMs()) / 1000));
  }
}
