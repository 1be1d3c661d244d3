import type { SecureConnection } from '../identity/tls.ts';
import type { Clock } from '../runtime/clock.ts';
import { claimedKind } from './api/callers.ts';
import { withoutPort } from './attestation/attest-agent.ts';

const LIFETIME_MS = 60_000;
const MAXIMUM_PER_ADDRESS = 100;

type Connection = Pick<SecureConnection, 'peer' | 'address' | 'socket'>;

/**
 * Bounds the connections of those who claim to be neither agent nor gateway. Until a call proves a
 * workload to be an admin, a registrar or a nested server, all that they can do is attest or fetch the
 * bundle, which takes a second; calls that they leave open would cost memory for good.
 */
export class UnprovedConnections {
  readonly #clock: Clock;
  readonly #counts = new Map<string, number>();
  readonly #releases = new WeakMap<object, () => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** False if its address has too many such connections; the caller refuses it. */
  admit(connection: Connection): boolean {
    const kind = claimedKind({ kind: 'remote', connection });
    if (kind === 'agent' || kind === 'gateway') return true;
    const address = withoutPort(connection.address);
    const count = this.#counts.get(address) ?? 0;
    if (count >= MAXIMUM_PER_ADDRESS) return false;
    this.#counts.set(address, count + 1);
    const released = new AbortController();
    const release = () => {
      if (released.signal.aborted) return;
      released.abort();
      this.#leave(address);
    };
    this.#releases.set(connection, release);
    connection.socket.once('close', release);
    void this.#clock.wait(LIFETIME_MS, released.signal).then(
      () => connection.socket.destroy(),
      () => undefined,
    );
    return true;
  }

  /** Its bounds fall away: who calls there has a role. */
  proved(connection: object): void {
    this.#releases.get(connection)?.();
  }

  #leave(address: string): void {
    const left = (this.#counts.get(address) ?? 0) - 1;
    if (left > 0) this.#counts.set(address, left);
    else this.#counts.delete(address);
  }
}
