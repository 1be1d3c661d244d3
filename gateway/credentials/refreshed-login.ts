/**
 * A login that is kept somewhere else and read from time to time: a secret store, or a store that
 * changes the account's password by itself. The account stays, so connections that are there stay too.
 */
import { Backoff } from '../../runtime/backoff.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Login, LoginSource } from './login-source.ts';

export interface ReadLogin {
  readonly login: Login;
  /** Milliseconds after which it is to be read again. */
  readonly refreshMs: number;
  /** Milliseconds after which it must not be used. Left out: it has no end. */
  readonly endsMs?: number;
}

/** Where a login is kept. */
export interface LoginReader {
  /** @throws an error that holds no secret */
  read(signal: AbortSignal): Promise<ReadLogin>;
  /**
   * The backend took it.
   * @returns milliseconds after which `read` is to be called, if that is sooner than it asked for
   */
  accepted?(login: Login): number | undefined;
  /** The backend refused it: `read` is called next. */
  rejected?(login: Login): void;
  /** Whether connections of that login are to be left. */
  isOver?(login: Login): boolean;
  /** Called once, when no `read` runs any more. */
  end?(): Promise<void>;
}

export interface RefreshedLoginOptions {
  readonly reader: LoginReader;
  /** For the log. */
  readonly backend: string;
  readonly clock: Clock;
  readonly log: Logger;
}

const RETRY = { firstMs: 500, maximumMs: 30_000 };
/** Between two reads that a refusal of the backend asks for, however many clients come. */
const REJECTED_PAUSE_MS = 1000;
/** Whatever a source says of its time. */
const SHORTEST_REFRESH_MS = 1000;

interface Kept {
  readonly login: Login;
  readonly dueMs: number;
  readonly endsAtMs: number;
}

/** Serves the last good login while its source cannot be reached, but never beyond its end. */
export class RefreshedLogin implements LoginSource {
  readonly #options: RefreshedLoginOptions;
  readonly #stop = new AbortController();
  readonly #backoff = new Backoff(RETRY);
  #kept: Kept | undefined;
  #reading: Promise<Kept> | undefined;
  #failure: { readonly error: Fault; readonly untilMs: number } | undefined;
  #following: Promise<void> | undefined;
  /** Ends the wait for what is due: something else is due sooner. */
  #wake = new AbortController();
  #rejected: Login | undefined;
  #rejectedReadMs = Number.NEGATIVE_INFINITY;

  constructor(options: RefreshedLoginOptions) {
    this.#options = options;
  }

  async current(signal: AbortSignal): Promise<Login> {
    this.#stop.signal.throwIfAborted();
    this.#following ??= this.#follow();
    const kept = this.#kept;
    if (kept !== undefined && this.#isGood(kept) && !this.#isToBeRead(kept)) return kept.login;
    try {
      return (await unlessAborted(this.#read(), signal)).login;
    } catch (error) {
      signal.throwIfAborted();
      if (kept === undefined || !this.#isGood(kept)) throw error;
      return kept.login;
    }
  }

  accepted(login: Login): void {
    this.#rejected = undefined;
    const refreshMs = this.#options.reader.accepted?.(login);
    if (refreshMs === undefined || this.#kept === undefined) return;
    const dueMs = this.#options.clock.monotonicMs() + refreshMs;
    this.#kept = { ...this.#kept, dueMs: Math.min(dueMs, this.#kept.dueMs) };
    this.#wake.abort();
  }

  rejected(login: Login): void {
    this.#rejected = login;
    this.#options.reader.rejected?.(login);
  }

  isOver(login: Login): boolean {
    return this.#options.reader.isOver?.(login) ?? false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Fault('UNAVAILABLE', 'the gateway no longer serves this backend'));
    this.#wake.abort();
    await this.#following;
    await this.#reading?.catch(() => undefined);
    await this.#options.reader.end?.();
  }

  #isGood({ endsAtMs }: Kept): boolean {
    return this.#options.clock.monotonicMs() < endsAtMs;
  }

  #isToBeRead({ login }: Kept): boolean {
    const now = this.#options.clock.monotonicMs();
    if (login !== this.#rejected || now < this.#rejectedReadMs + REJECTED_PAUSE_MS) return false;
    this.#rejectedReadMs = now;
    return true;
  }

  /** One read at a time; one that failed is not repeated at once, whoever asks. */
  #read(): Promise<Kept> {
    const { clock } = this.#options;
    if (this.#failure !== undefined && clock.monotonicMs() < this.#failure.untilMs) {
      return Promise.reject(this.#failure.error);
    }
    this.#reading ??= this.#readOnce().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #readOnce(): Promise<Kept> {
    const { reader, clock, log, backend } = this.#options;
    const { signal } = this.#stop;
    signal.throwIfAborted();
    const readAtMs = clock.monotonicMs();
    try {
      const read = await reader.read(signal);
      const { login, refreshMs, endsMs = Number.POSITIVE_INFINITY } = read;
      const dueMs = readAtMs + Math.max(refreshMs, SHORTEST_REFRESH_MS);
      const kept = { login, dueMs, endsAtMs: readAtMs + endsMs };
      this.#kept = kept;
      this.#failure = undefined;
      this.#backoff.reset();
      this.#wake.abort();
      return kept;
    } catch (cause) {
      signal.throwIfAborted();
      const error = new Fault('UNAVAILABLE', "the backend's login cannot be read", { cause });
      this.#failure = { error, untilMs: clock.monotonicMs() + this.#backoff.next() };
      const serves = this.#kept !== undefined && this.#isGood(this.#kept);
      log.warn(
        { backend, err: error },
        serves
          ? "reading a backend's login failed, the last one serves meanwhile"
          : "reading a backend's login failed, and there is none that serves",
      );
      throw error;
    }
  }

  async #follow(): Promise<void> {
    const { clock } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const dueMs = this.#failure?.untilMs ?? this.#kept?.dueMs ?? 0;
      const leftMs = dueMs - clock.monotonicMs();
      if (leftMs > 0) {
        this.#wake = new AbortController();
        await clock.wait(leftMs, this.#wake.signal).catch(() => undefined);
      } else await this.#read().catch(() => undefined);
    }
  }
}

async function unlessAborted<T>(result: Promise<T>, signal: AbortSignal): Promise<T> {
  result.catch(() => undefined);
  signal.throwIfAborted();
  let abort: () => void = () => undefined;
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
    signal.addEventListener('abort', abort);
  });
  try {
    return await Promise.race([result, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
