/**
 * An account that the database engine makes for this gateway and drops when its lease ends.
 *
 * Two thirds into its time a lease is renewed. Where that gives less than half of what it once was, its
 * maximum is near, and a new account takes its place; so it does when the token that made the lease is
 * replaced, because what a token made ends with it. The old account is given back only when the backend
 * has taken the new one, and after the statements that run on it have ended; if the backend refuses the
 * new one, the old one serves on.
 *
 * Source: Vault HTTP API, "Database secrets engine" and "sys/leases".
 */
import type { VaultDatabase } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../../runtime/clock.ts';
import type { Logger } from '../../../runtime/log.ts';
import type { Login } from '../login-source.ts';
import type { LoginReader, ReadLogin } from '../refreshed-login.ts';
import { readCreds, readRenewal } from './vault-answers.ts';
import { VaultError } from './vault-http.ts';
import type { VaultToken } from './vault-token.ts';

const RENEW_AFTER = 2 / 3;
/** Longer than any statement of the gateway's own runs. */
const RETIRE_AFTER_MS = 30_000;
/** After a new account that the backend did not take. */
const RETRY_MS = 10_000;
const END_TIMEOUT_MS = 3000;

interface Lease {
  readonly login: Login;
  readonly id: string;
  /** The token that made it: the lease ends with it. */
  readonly madeBy: string;
  readonly fullMs: number;
  endsAtMs: number;
  dueMs: number;
  isRenewable: boolean;
}

export interface VaultDynamicLoginOptions {
  readonly database: VaultDatabase;
  readonly token: VaultToken;
  readonly backend: string;
  readonly clock: Clock;
  readonly log: Logger;
}

export class VaultDynamicLogin implements LoginReader {
  readonly #options: VaultDynamicLoginOptions;
  /** Accounts that are given back when nothing runs on them any more. */
  readonly #retired: { readonly lease: Lease; readonly dueMs: number }[] = [];
  #lease: Lease | undefined;
  /** Serves again if the backend does not take its successor. */
  #former: Lease | undefined;
  #isRefused = false;

  constructor(options: VaultDynamicLoginOptions) {
    this.#options = options;
  }

  async read(signal: AbortSignal): Promise<ReadLogin> {
    const { token, clock } = this.#options;
    const { text } = await token.ensure(signal);
    const lease = await this.#leaseFor(text, signal);
    await this.#revokeRetired();
    const now = clock.monotonicMs();
    const tokenEndsAtMs = lease.madeBy === text ? (token.value?.endsAtMs ?? now) : lease.endsAtMs;
    return {
      login: lease.login,
      refreshMs: Math.min(
        lease.dueMs - now,
        token.dueInMs,
        ...this.#retired.map(({ dueMs }) => dueMs - now),
      ),
      endsMs: Math.min(lease.endsAtMs, tokenEndsAtMs) - now,
    };
  }

  accepted(login: Login): number | undefined {
    if (login !== this.#lease?.login) return undefined;
    this.#isRefused = false;
    const former = this.#former;
    this.#former = undefined;
    if (former === undefined) return undefined;
    this.#retire(former);
    return RETIRE_AFTER_MS;
  }

  rejected(login: Login): void {
    if (login === this.#lease?.login) this.#isRefused = true;
  }

  isOver(login: Login): boolean {
    if (this.#lease === undefined) return false;
    const { login: current, endsAtMs } = this.#lease;
    return login !== current || this.#options.clock.monotonicMs() >= endsAtMs;
  }

  /** Gives back what there is, within 3 s; what cannot be given back ends by itself. */
  async end(): Promise<void> {
    const retired = this.#retired.splice(0).map(({ lease }) => lease);
    const leases = [this.#lease, this.#former, ...retired];
    const signal = AbortSignal.timeout(END_TIMEOUT_MS);
    await Promise.all(leases.map((lease) => lease && this.#revoke(lease, signal)));
    await this.#options.token.end(signal);
  }

  async #leaseFor(token: string, signal: AbortSignal): Promise<Lease> {
    const { clock } = this.#options;
    const now = clock.monotonicMs();
    const lease = this.#lease;
    if (this.#isRefused && lease !== undefined) return this.#replaceRefused(lease, token, signal);
    if (lease === undefined || now >= lease.endsAtMs) return this.#take(token, signal);
    if (lease.madeBy === token) {
      if (now < lease.dueMs) return lease;
      if (lease.isRenewable && (await this.#renew(lease, signal))) return lease;
    }
    const next = await this.#take(token, signal);
    this.#former = lease;
    return next;
  }

  /** Back to the account before it, if that one still is; a new one otherwise. */
  async #replaceRefused(refused: Lease, token: string, signal: AbortSignal): Promise<Lease> {
    const { clock, log, backend } = this.#options;
    const former = this.#former;
    this.#former = undefined;
    const now = clock.monotonicMs();
    if (former === undefined || now >= former.endsAtMs) {
      const next = await this.#take(token, signal);
      this.#retire(refused);
      return next;
    }
    log.warn({ backend }, 'the backend refuses its new login, the one before serves on');
    former.dueMs = now + RETRY_MS;
    former.isRenewable = false;
    this.#lease = former;
    this.#isRefused = false;
    this.#retire(refused);
    return former;
  }

  async #take(token: string, signal: AbortSignal): Promise<Lease> {
    const { database, token: vault, clock, log, backend } = this.#options;
    const startedMs = clock.monotonicMs();
    const path = `${database.mount}/creds/${database.role}`;
    const answer = readCreds(await vault.ask({ method: 'GET', path, signal }));
    const { username: user, password } = answer.data;
    const lease: Lease = {
      login: { user, password },
      id: answer.lease_id,
      // A request that had to log in again was made with another token.
      madeBy: vault.value?.text ?? token,
      fullMs: answer.lease_duration * 1000,
      ...timesOf(answer, startedMs),
    };
    this.#lease = lease;
    this.#isRefused = false;
    log.info({ backend }, 'the backend has a new login from Vault');
    return lease;
  }

  /** @returns false if a new account is needed */
  async #renew(lease: Lease, signal: AbortSignal): Promise<boolean> {
    const { token, clock } = this.#options;
    const startedMs = clock.monotonicMs();
    const body = { lease_id: lease.id, increment: Math.round(lease.fullMs / 1000) };
    try {
      const request = { method: 'POST', path: 'sys/leases/renew', body, signal } as const;
      const answer = readRenewal(await token.ask(request));
      Object.assign(lease, timesOf(answer, startedMs));
      return answer.lease_duration * 1000 >= lease.fullMs / 2;
    } catch (error) {
      // The server knows the lease no more, or lets nobody renew it.
      if (error instanceof VaultError && error.status < 500) return false;
      throw error;
    }
  }

  #retire(lease: Lease): void {
    const dueMs = this.#options.clock.monotonicMs() + RETIRE_AFTER_MS;
    this.#retired.push({ lease, dueMs });
  }

  async #revokeRetired(): Promise<void> {
    const now = this.#options.clock.monotonicMs();
    const due = this.#retired.filter(({ dueMs }) => dueMs <= now);
    for (const one of due) {
      this.#retired.splice(this.#retired.indexOf(one), 1);
      await this.#revoke(one.lease, AbortSignal.timeout(END_TIMEOUT_MS));
    }
  }

  async #revoke(lease: Lease, signal: AbortSignal): Promise<void> {
    const { token, clock, log, backend } = this.#options;
    if (clock.monotonicMs() >= lease.endsAtMs) return;
    const body = { lease_id: lease.id };
    try {
      await token.ask({ method: 'POST', path: 'sys/leases/revoke', body, signal });
    } catch (error) {
      log.warn({ backend, err: error }, 'a lease could not be revoked: it ends by itself');
    }
  }
}

function timesOf(
  { lease_duration: seconds, renewable }: { lease_duration: number; renewable: boolean },
  startedMs: number,
) {
  const lengthMs = seconds * 1000;
  return {
    endsAtMs: startedMs + lengthMs,
    dueMs: startedMs + lengthMs * RENEW_AFTER,
    isRenewable: renewable,
  };
}
