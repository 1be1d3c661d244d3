/**
 * Certificates that were signed for workloads, each with a key of its own that never leaves memory. A
 * session by SSH lasts as long as the certificate that opened it, so one is handed out again only
 * while it is fresh; one that cannot be had anew is handed out until it ends. Who asks in a loop costs
 * the server a call a second at most, whether it signs or refuses.
 */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import type { SshCertificate } from '../../identity/ssh/certificate.ts';
import { encodePublicKey } from '../../identity/ssh/public-key.ts';
import type { Clock } from '../../runtime/clock.ts';
import { type Deadline, deadlineAt, msUntil } from '../../runtime/deadline.ts';
import { Fault } from '../../runtime/fault.ts';
import type { AgentEntry } from '../svid/entry.ts';

const MAXIMUM_HELD = 1000;
/** Of its life, after which another is asked for. */
const FRESH_PART = 0.2;
/** One that ends sooner could end before its login does. */
const LEAST_LEFT_MS = 5000;
/** After a failure, in which the server is not asked again. */
const PAUSE_MS = 1000;

/** What the server answered for a key. */
export interface SignedKey {
  readonly certificate: SshCertificate;
  /** Public key blobs that sign the host certificates of gateways and targets. */
  readonly hostAuthorities: readonly Uint8Array[];
}

/** Has the server sign a key. @throws Fault: `PERMISSION_DENIED` if the agent is not entitled to it */
export type SignSshKey = (entry: AgentEntry, publicKey: Uint8Array) => Promise<SignedKey>;

export interface HeldCertificate extends SignedKey {
  readonly entry: AgentEntry;
  readonly key: KeyObject;
}

interface Held extends HeldCertificate {
  readonly renewAt: Deadline;
}

interface Failure {
  readonly reason: unknown;
  /** Of the monotonic clock. */
  readonly untilMs: number;
}

export class SshCertificateCache {
  readonly #sign: SignSshKey;
  readonly #clock: Clock;
  readonly #held = new Map<string, Held>();
  readonly #signing = new Map<string, Promise<Held>>();
  readonly #failures = new Map<string, Failure>();

  constructor(options: { readonly sign: SignSshKey; readonly clock: Clock }) {
    this.#sign = options.sign;
    this.#clock = options.clock;
  }

  /** @throws Fault as `SignSshKey` */
  async get(entry: AgentEntry): Promise<HeldCertificate> {
    const key = `${entry.id} ${entry.revision} ${entry.createdAt} ${entry.spiffeId}`;
    this.#dropEnded();
    this.#dropOldFailures();
    const held = this.#held.get(key);
    if (held !== undefined && msUntil(held.renewAt, this.#clock) > 0) return held;
    try {
      return await this.#renew(key, entry);
    } catch (error) {
      if (held === undefined) throw error;
      if (error instanceof Fault && error.code === 'PERMISSION_DENIED') {
        this.#held.delete(key);
        throw error;
      }
      return held;
    }
  }

  #dropEnded(): void {
    const end = this.#clock.now().getTime() + LEAST_LEFT_MS;
    for (const [key, { certificate }] of this.#held) {
      if (certificate.validBefore.getTime() <= end) this.#held.delete(key);
    }
  }

  #dropOldFailures(): void {
    const now = this.#clock.monotonicMs();
    for (const [key, { untilMs }] of this.#failures) {
      if (untilMs <= now) this.#failures.delete(key);
    }
  }

  /** Callers that want the same at once share one call. */
  #renew(key: string, entry: AgentEntry): Promise<Held> {
    const running = this.#signing.get(key);
    if (running !== undefined) return running;
    const failure = this.#failures.get(key);
    if (failure !== undefined) return Promise.reject(failure.reason);
    const started = this.#signAndHold(key, entry)
      .catch((reason: unknown) => {
        this.#failures.set(key, { reason, untilMs: this.#clock.monotonicMs() + PAUSE_MS });
        throw reason;
      })
      .finally(() => this.#signing.delete(key));
    this.#signing.set(key, started);
    return started;
  }

  async #signAndHold(key: string, entry: AgentEntry): Promise<Held> {
    const { privateKey } = generateKeyPairSync('ed25519');
    const signed = await this.#sign(entry, encodePublicKey(privateKey));
    const now = this.#clock.now().getTime();
    const life = signed.certificate.validBefore.getTime() - now;
    const renewAt = deadlineAt(new Date(now + life * FRESH_PART), this.#clock);
    const held = { ...signed, entry, key: privateKey, renewAt };
    this.#held.delete(key);
    const [oldest] = this.#held.keys();
    if (this.#held.size >= MAXIMUM_HELD && oldest !== undefined) this.#held.delete(oldest);
    this.#held.set(key, held);
    return held;
  }
}
