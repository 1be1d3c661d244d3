/**
 * A login that the server's vault holds. It is fetched when a connection is made, kept in memory, and
 * fetched anew when the server tells of another version: connections of the one before are left, so that
 * it can be retired.
 */
import { Backoff } from '../../runtime/backoff.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { RpcError } from '../../runtime/grpc-client.ts';
import type { Logger } from '../../runtime/log.ts';
import type { WatchedSource } from '../../runtime/watched.ts';
import type { GatewayApi } from '../access/gateway-api.ts';
import type { GatewaySnapshot } from '../access/snapshot.ts';
import type { Login, LoginSource } from './login-source.ts';

export interface SecretLoginOptions {
  readonly backend: string;
  readonly api: () => Pick<GatewayApi, 'fetchLogin'>;
  readonly snapshot: WatchedSource<Pick<GatewaySnapshot, 'logins'>>;
  readonly clock: Clock;
  readonly log: Logger;
}

const RETRY = { firstMs: 100, maximumMs: 5000 };
const FETCH_TIMEOUT_MS = 4000;
/** How often a login that the backend refuses is fetched again. */
const REFUSED_PAUSE_MS = 1000;

interface Kept {
  readonly login: Login;
  /** Of the current version when it was fetched; the login's own may be the one before. */
  readonly current: bigint;
  readonly isPrevious: boolean;
}

export class SecretLogin implements LoginSource {
  readonly #options: SecretLoginOptions;
  readonly #stop = new AbortController();
  readonly #backoff = new Backoff(RETRY);
  readonly #following: Promise<void>;
  readonly #leavers = new Set<() => void>();
  #kept: Kept | undefined;
  #refused: Login | undefined;
  /** When it was last fetched because of a refusal. */
  #refetchedMs = Number.NEGATIVE_INFINITY;
  #fetching: Promise<Kept> | undefined;
  #failure: { readonly error: Fault; readonly untilMs: number } | undefined;

  constructor(options: SecretLoginOptions) {
    this.#options = options;
    this.#following = this.#follow();
  }

  async current(signal: AbortSignal): Promise<Login> {
    signal.throwIfAborted();
    const kept = this.#kept;
    if (kept !== undefined && !this.#isToBeFetched(kept)) return kept.login;
    try {
      return (await this.#fetch()).login;
    } catch (error) {
      signal.throwIfAborted();
      if (kept === undefined) throw error;
      return kept.login;
    }
  }

  accepted(login: Login): void {
    if (login === this.#refused) this.#refused = undefined;
  }

  rejected(login: Login): void {
    this.#refused = login;
  }

  isOver(login: Login): boolean {
    const kept = this.#kept;
    return kept !== undefined && (login !== kept.login || kept.current < this.#told);
  }

  onOver(leave: () => void): () => void {
    this.#leavers.add(leave);
    return () => void this.#leavers.delete(leave);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Fault('UNAVAILABLE', 'the gateway no longer serves this backend'));
    await this.#following;
    await this.#fetching?.catch(() => undefined);
  }

  /** The newest version that the server has told of. */
  get #told(): bigint {
    const { snapshot, backend } = this.#options;
    return snapshot.value.logins.get(backend) ?? 0n;
  }

  #isToBeFetched({ login, current }: Kept): boolean {
    if (current < this.#told) return true;
    if (login !== this.#refused) return false;
    return this.#options.clock.monotonicMs() >= this.#refetchedMs + REFUSED_PAUSE_MS;
  }

  /** One fetch at a time; one that failed is not repeated at once, whoever asks. */
  #fetch(): Promise<Kept> {
    const { clock } = this.#options;
    if (this.#failure !== undefined && clock.monotonicMs() < this.#failure.untilMs) {
      return Promise.reject(this.#failure.error);
    }
    this.#fetching ??= this.#fetchOnce().finally(() => {
      this.#fetching = undefined;
    });
    return this.#fetching;
  }

  async #fetchOnce(): Promise<Kept> {
    const { clock, log, backend } = this.#options;
    try {
      const kept = await this.#newest();
      const isAnother = this.#kept !== undefined && kept.login !== this.#kept.login;
      this.#kept = kept;
      this.#failure = undefined;
      this.#backoff.reset();
      if (isAnother) this.#leave();
      return kept;
    } catch (cause) {
      this.#stop.signal.throwIfAborted();
      const error = new Fault('UNAVAILABLE', "the backend's login cannot be fetched", { cause });
      this.#failure = { error, untilMs: clock.monotonicMs() + this.#backoff.next() };
      const serves = this.#kept === undefined ? 'none' : 'the last one';
      log.warn({ backend, err: error, serves }, "fetching a backend's login failed, trying again");
      throw error;
    }
  }

  /** A backend that refuses the current version may not have been given it yet: the one before is tried. */
  async #newest(): Promise<Kept> {
    const before = this.#kept;
    const isRefused = before !== undefined && before.login === this.#refused;
    if (isRefused) this.#refetchedMs = this.#options.clock.monotonicMs();
    const { version, login } = await this.#ask(false);
    const previous =
      isRefused && before.current === version && !before.isPrevious
        ? await this.#ask(true).catch(unlessMissing)
        : undefined;
    if (previous === undefined) return { login, current: version, isPrevious: false };
    return { login: previous.login, current: version, isPrevious: true };
  }

  async #ask(previous: boolean): Promise<{ version: bigint; login: Login }> {
    const { api, backend } = this.#options;
    const options = { signal: this.#stop.signal, timeoutMs: FETCH_TIMEOUT_MS };
    const fetched = await api().fetchLogin({ backend, previous }, options);
    const { user, password, version } = fetched;
    const known = this.#kept?.login;
    const isKnown = known?.user === user && known.password === password;
    return { version, login: isKnown ? known : { user, password } };
  }

  async #follow(): Promise<void> {
    let told = this.#told;
    for await (const _ of this.#options.snapshot.values(this.#stop.signal)) {
      if (this.#told === told) continue;
      told = this.#told;
      this.#leave();
    }
  }

  #leave(): void {
    for (const leave of this.#leavers) leave();
  }
}

function unlessMissing(error: unknown): undefined {
  if (error instanceof RpcError && error.status === 'NOT_FOUND') return undefined;
  throw error;
}
