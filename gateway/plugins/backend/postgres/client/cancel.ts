/**
 * CancelRequests. A client gets the backend's true process id, which tools compare, but a secret of the
 * gateway's own; it serves to cancel through this gateway alone, from the address of its session, and
 * the backend's secret never leaves the gateway.
 *
 * Where several processes serve the gateway's clients, a key tells whose it is by its remainder, and a
 * request that comes to another process is handed on; who owns the key judges and counts (threats P14).
 *
 * Threat: a CancelRequest proves nothing but the key, and older clients send it in clear.
 */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../../../../../runtime/clock.ts';
import { ALONE, type Peers } from '../../../../workers/peers.ts';
import { type BackendAddress, dialBackend } from '../upstream/dial.ts';
import type { BackendKey } from '../wire/backend-messages.ts';
import { cancelRequest } from '../wire/frontend-messages.ts';
import { endClient } from './end-client.ts';
import type { CancelPacket } from './startup.ts';

/** The length that protocol 3.0 prescribes. */
const SECRET_BYTES = 4;
const WINDOW_MS = 60_000;
/** By all processes together. */
const MOST_FAILURES_PER_WINDOW = 100;
const MOST_ADDRESSES = 10_000;
const MOST_AT_ONCE = 100;
const MOST_ENDED = 10_000;
const FORWARD_TIMEOUT_MS = 5000;

export interface Cancellable {
  readonly key: BackendKey;
  readonly address: BackendAddress;
  /** IP address of the session's client. */
  readonly clientAddress: string;
  readonly spiffeId: string;
  /** Cancels a statement that the backend has not seen yet. @returns false if there is none */
  cancelUnseen?(): boolean;
}

/** A session while it can be cancelled. */
export interface Cancelling {
  /** For the client. */
  readonly secret: Buffer;
  /**
   * Stops what the session runs. A session that the gateway ends does not wait for its turn at the few
   * connections by which roles are closed: its process finds its client gone as soon as it looks.
   */
  interrupt(): Promise<void>;
  /** At the end of the session. */
  remove(): void;
}

/** Who asks: `spiffeId` is there if the request came inside TLS. */
export interface Canceller {
  readonly clientAddress: string;
  readonly spiffeId?: string;
}

/** The sessions that can be cancelled now. */
export class CancelRegistry {
  readonly #clock: Clock;
  readonly #peers: Peers;
  readonly #mostFailures: number;
  readonly #sessions = new Map<string, Cancellable>();
  readonly #failures = new Map<string, number>();
  /** Keys of sessions that ended: a request that comes late is no guess. */
  readonly #ended = new Set<string>();
  #windowStart = 0;
  #underWay = 0;

  constructor(clock: Clock, peers: Peers = ALONE) {
    this.#clock = clock;
    this.#peers = peers;
    this.#mostFailures = Math.ceil(MOST_FAILURES_PER_WINDOW / peers.count);
    peers.onTold((message) => this.#told(message));
  }

  add(session: Cancellable): Cancelling {
    for (;;) {
      const secret = randomBytes(SECRET_BYTES);
      if (this.#ownerOf(secret) !== this.#peers.index) continue;
      const name = nameOf({ processId: session.key.processId, secret });
      if (this.#sessions.has(name)) continue;
      this.#sessions.set(name, session);
      const signal = () => AbortSignal.timeout(FORWARD_TIMEOUT_MS);
      return {
        secret,
        interrupt: () => this.#atMostAtOnce(() => forward(session, signal())),
        remove: () => this.#remove(name),
      };
    }
  }

  /** Forwards a request that may be made; drops any other without a word, as a server does. */
  async cancel(packet: CancelPacket, from: Canceller, signal: AbortSignal): Promise<void> {
    if (!this.#mayTry(from.clientAddress)) return;
    const owner = this.#ownerOf(packet.secret);
    if (owner === this.#peers.index) await this.#cancelOwn(packet, from, signal);
    else await this.#atMostAtOnce(() => this.#peers.tell(owner, { packet, from }));
  }

  async #cancelOwn(packet: CancelPacket, from: Canceller, signal: AbortSignal): Promise<void> {
    const name = nameOf(packet);
    const session = this.#sessions.get(name);
    if (session === undefined && this.#ended.has(name)) return;
    if (session === undefined || !isOwner(session, from)) {
      this.#countFailure(from.clientAddress);
      return;
    }
    if (session.cancelUnseen?.() === true) return;
    await this.#atMostAtOnce(() => forward(session, signal));
  }

  /** Of another process of this gateway, which has looked at nothing but the key. */
  async #told(message: unknown): Promise<void> {
    const { packet, from } = message as { readonly packet: CancelPacket; readonly from: Canceller };
    if (!this.#mayTry(from.clientAddress)) return;
    const secret = Buffer.from(packet.secret);
    await this.#cancelOwn({ ...packet, secret }, from, AbortSignal.timeout(FORWARD_TIMEOUT_MS));
  }

  async #atMostAtOnce(act: () => Promise<void>): Promise<void> {
    if (this.#underWay >= MOST_AT_ONCE) return;
    this.#underWay += 1;
    try {
      await act();
    } finally {
      this.#underWay -= 1;
    }
  }

  #ownerOf(secret: Buffer): number {
    return secret.readUInt32BE() % this.#peers.count;
  }

  #remove(name: string): void {
    if (!this.#sessions.delete(name)) return;
    if (this.#ended.size >= MOST_ENDED) this.#ended.clear();
    this.#ended.add(name);
  }

  #mayTry(address: string): boolean {
    const now = this.#clock.monotonicMs();
    if (now - this.#windowStart >= WINDOW_MS) {
      this.#failures.clear();
      this.#windowStart = now;
    }
    const failures = this.#failures.get(address);
    if (failures === undefined) return this.#failures.size < MOST_ADDRESSES;
    return failures < this.#mostFailures;
  }

  #countFailure(address: string): void {
    this.#failures.set(address, (this.#failures.get(address) ?? 0) + 1);
  }
}

function isOwner(session: Cancellable, from: Canceller): boolean {
  if (from.spiffeId !== undefined && from.spiffeId !== session.spiffeId) return false;
  return from.clientAddress === session.clientAddress;
}

function nameOf({ processId, secret }: CancelPacket): string {
  return `${processId}:${secret.toString('hex')}`;
}

/** Encrypted where the session is; a backend that cannot be reached is the client's to notice. */
async function forward(session: Cancellable, signal: AbortSignal): Promise<void> {
  const limit = new AbortController();
  const abort = () => limit.abort(signal.reason);
  signal.addEventListener('abort', abort);
  const timer = setTimeout(abort, FORWARD_TIMEOUT_MS);
  try {
    const socket = await dialBackend(session.address, limit.signal);
    await endClient(socket, cancelRequest(session.key.processId, session.key.secret));
  } catch {
    // The statement goes on, as it does when a cancel comes too late.
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
  }
}
