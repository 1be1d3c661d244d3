/** Keeps the bundle and the upstream authority's in step, for as long as the server runs. */
import { Backoff } from '../../runtime/backoff.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import type {
  UpstreamAuthority,
  UpstreamBundle,
} from '../plugins/upstream-authority/upstream-authority.ts';
import type { Authorities } from './authorities.ts';
import type { AuthoritiesState } from './authority-state.ts';
import type { JwtKey } from './trusted-steps.ts';
import { UpstreamWithdrawal } from './upstream-withdrawal.ts';

const RETRY = { firstMs: 1000, maximumMs: 60_000 };

export interface UpstreamLinkOptions {
  readonly authorities: Authorities;
  readonly upstream: UpstreamAuthority;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Takes over what the upstream trusts and what it withdraws, and has it publish the keys that JWT-SVIDs are signed with
 * here and below, until it is disposed.
 */
export class UpstreamLink implements AsyncDisposable {
  readonly #options: UpstreamLinkOptions;
  readonly #stop = new AbortController();
  readonly #running: Promise<unknown>;
  /** Ids of the keys that the upstream has. */
  readonly #published = new Set<string>();
  readonly #withdrawal: UpstreamWithdrawal;
  /** What its bundle held when it was last asked: hex of roots, and key ids. */
  #told: ReadonlySet<string> = new Set();

  constructor(options: UpstreamLinkOptions) {
    this.#options = options;
    this.#withdrawal = new UpstreamWithdrawal(options);
    const { signal } = this.#stop;
    this.#running = Promise.all([
      this.#persist('the bundle of the upstream authority cannot be followed', () =>
        this.#followBundle(signal),
      ),
      this.#persist('a JWT key could not be published upstream', () => this.#publish(signal)),
    ]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  /** Runs `act` to its end, and again after a failure. */
  async #persist(failure: string, act: () => Promise<void>): Promise<void> {
    const { clock, log } = this.#options;
    const { signal } = this.#stop;
    const backoff = new Backoff(RETRY);
    while (!signal.aborted) {
      try {
        await act();
        return;
      } catch (error) {
        if (signal.aborted) return;
        log.warn({ err: error }, failure);
        await clock.wait(backoff.next(), signal).catch(() => undefined);
      }
    }
  }

  async #followBundle(signal: AbortSignal): Promise<void> {
    const { upstream, authorities } = this.#options;
    const bundles = upstream.watchBundle?.(signal)[Symbol.asyncIterator]();
    if (bundles === undefined) return;
    try {
      for (;;) {
        const before = authorities.state.value;
        const { value: bundle, done } = await bundles.next();
        if (done === true) return;
        await this.#add(bundle);
        await this.#withdrawal.follow(bundle, before, signal);
      }
    } finally {
      await bundles.return?.();
    }
  }

  /** Takes over what the upstream has come to trust: an operator may have revoked here what it had before. */
  async #add({ x509, jwt }: UpstreamBundle): Promise<void> {
    const roots = x509.filter(({ der }) => !this.#told.has(hex(der)));
    const keys = jwt.filter(({ keyId }) => !this.#told.has(keyId));
    if (roots.length + keys.length > 0)
      await this.#options.authorities.addUpstream({ x509: roots.map(({ der }) => der), jwt: keys });
    this.#told = new Set([...x509.map(({ der }) => hex(der)), ...jwt.map(({ keyId }) => keyId)]);
  }

  async #publish(signal: AbortSignal): Promise<void> {
    const { upstream, authorities } = this.#options;
    if (upstream.publishJwtKey === undefined) return;
    for await (const state of authorities.state.values(signal)) {
      for (const key of keysFromHere(state)) {
        if (this.#published.has(key.keyId)) continue;
        const jwt = await upstream.publishJwtKey({ ...key, tainted: false }, signal);
        this.#published.add(key.keyId);
        await authorities.addUpstream({ x509: [], jwt });
      }
    }
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** JWT keys of this server and of those below, that sign or will. */
function keysFromHere({ authorities, trusted }: AuthoritiesState): JwtKey[] {
  const own = authorities.flatMap(({ row }) =>
    row.kind === 'jwt' && row.state !== 'old' ? [row] : [],
  );
  const below = trusted.filter(({ kind, source }) => kind === 'jwt' && source === 'published');
  return [...own, ...below].map(({ id: keyId, publicKey, notAfter }) => {
    return { keyId, publicKey, expiresAt: notAfter };
  });
}
