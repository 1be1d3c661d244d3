/**
 * What this gateway knows of the server's time and of its own freshness. Everything is measured on the
 * monotonic clock from the moment a heartbeat arrived, so a jump of the wall clock moves no deadline
 * (threats S18).
 */
import { type Backend, OnStale } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { Watched } from '../../runtime/watched.ts';

const LARGEST_SKEW_MS = 5000;
const CATCH_UP_MS = 2000;

/** How long silence may last before no session opens, and before live ones end (threats S6). */
const STALE_LIMITS = {
  strict: { openMs: 2000, liveMs: 15_000 },
  standard: { openMs: 15_000, liveMs: 300_000 },
} as const;

interface Beat {
  readonly serverTime: Date;
  readonly revocationSeq: bigint;
  readonly receivedMs: number;
}

export class Heartbeats {
  readonly #clock: Clock;
  readonly #applied = new Watched(0n);
  #last: Beat | undefined;
  /** The newest beat of which all revocations are applied: only such a one makes fresh. */
  #confirmed: Beat | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The last revocation applied. */
  get revocationSeq(): bigint {
    return this.#applied.value;
  }

  beat(serverTime: Date, revocationSeq: bigint): void {
    this.#last = { serverTime, revocationSeq, receivedMs: this.#clock.monotonicMs() };
    this.#confirm();
  }

  applied(seq: bigint): void {
    if (seq > this.#applied.value) this.#applied.set(seq);
    this.#confirm();
  }

  /** Milliseconds since a heartbeat whose revocations are all applied. */
  silentMs(): number {
    const from = this.#confirmed?.receivedMs ?? Number.NEGATIVE_INFINITY;
    return this.#clock.monotonicMs() - from;
  }

  /** The server's time now, never ahead of it; undefined before its first word. */
  serverNow(): Date | undefined {
    if (this.#last === undefined) return undefined;
    const since = this.#clock.monotonicMs() - this.#last.receivedMs;
    return new Date(this.#last.serverTime.getTime() + since);
  }

  /** Whether sessions on `backend` must end because the server is silent. */
  isTooStaleToLive(backend: Backend): boolean {
    return this.silentMs() > staleLimits(backend).liveMs;
  }

  /** @throws Fault UNAVAILABLE if no session may be opened on `backend` now */
  requireFresh(backend: Backend): void {
    const silent = this.silentMs();
    if (silent > staleLimits(backend).openMs) {
      const since = Number.isFinite(silent) ? ` for ${Math.floor(silent / 1000)} s` : '';
      throw new Fault('UNAVAILABLE', `the gateway has not heard from its server${since}`);
    }
    this.requireTrueTime();
  }

  /** @throws Fault UNAVAILABLE if this machine's clock and the server's differ by more than 5 s */
  requireTrueTime(): void {
    const serverNow = this.serverNow();
    if (serverNow === undefined) throw new Fault('UNAVAILABLE', 'the gateway is starting');
    const skewMs = Math.abs(this.#clock.now().getTime() - serverNow.getTime());
    if (skewMs <= LARGEST_SKEW_MS) return;
    const seconds = Math.round(skewMs / 1000);
    throw new Fault('UNAVAILABLE', `the gateway's clock is ${seconds} s off its server's`);
  }

  /**
   * Resolves once every revocation that the last heartbeat named is applied.
   * @throws Fault UNAVAILABLE after 2 s
   */
  async caughtUp(signal: AbortSignal): Promise<void> {
    const seq = this.#last?.revocationSeq ?? 0n;
    if (this.#applied.value >= seq) return;
    const waiting = new AbortController();
    const stop = () => waiting.abort();
    signal.addEventListener('abort', stop, { once: true });
    const timeout = this.#clock.wait(CATCH_UP_MS, waiting.signal).then(stop, stop);
    try {
      for await (const applied of this.#applied.values(waiting.signal)) {
        if (applied >= seq) return;
      }
    } finally {
      signal.removeEventListener('abort', stop);
      stop();
      await timeout;
    }
    throw new Fault('UNAVAILABLE', 'the gateway is behind its server: try again');
  }

  #confirm(): void {
    if (this.#last !== undefined && this.#applied.value >= this.#last.revocationSeq) {
      this.#confirmed = this.#last;
    }
  }
}

function staleLimits(backend: Backend): { readonly openMs: number; readonly liveMs: number } {
  return STALE_LIMITS[backend.onStale === OnStale.STRICT ? 'strict' : 'standard'];
}
