import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Datastore } from '../plugins/datastore/datastore.ts';
import type { AuditLog, EventInit } from './audit-log.ts';

const QUIET_MS = 60_000;
const FLUSH_MS = 1000;
/** Keys beyond this share one event, so that an attacker with many addresses fills neither memory nor disk. */
const MAXIMUM_KEYS = 1000;
/** More for what is told of somebody who is known, so that strangers cannot hide an alarm. */
const MAXIMUM_KEYS_OF_ALL = 2000;
const OVERFLOW = { type: 'refusals.overflow', outcome: Outcome.DENIED } as const;

/** A connection that was refused before anybody could be named. */
export interface RefusedConnection {
  /** The peer's address, without its port. */
  readonly address: string;
  /** The listener's port. */
  readonly port: number;
  /** From a closed set. */
  readonly reason: string;
}

interface Counted {
  /** The first of those that are counted. */
  event: EventInit;
  count: number;
  writtenMs: number | undefined;
}

/**
 * Writes what strangers can repeat at will at most once a minute and key, with a count: who has no
 * identity must not fill the disk. Events go in one transaction a second.
 */
export class RefusalCounter implements AsyncDisposable {
  readonly #store: Datastore;
  readonly #audit: AuditLog;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #counted = new Map<string, Counted>();
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  constructor(options: { store: Datastore; audit: AuditLog; clock: Clock; log: Logger }) {
    this.#store = options.store;
    this.#audit = options.audit;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#running = this.#run();
  }

  /** Logs a refused connection and counts it towards its event `connection.refused`. */
  refused(connection: RefusedConnection): void {
    const { address, port, reason } = connection;
    this.#log.warn({ peer_addr: address, port, reason }, 'connection refused');
    this.count(`${address}|${port}|${reason}`, {
      type: 'connection.refused',
      outcome: Outcome.DENIED,
      actor: { kind: 'unknown', address },
      reason,
      attributes: { port: String(port) },
    });
  }

  /** Counts towards an event that is written within a second, and then at most once a minute. */
  count(key: string, event: EventInit): void {
    const known = this.#counted.get(key);
    if (known !== undefined) {
      if (known.count === 0) known.event = event;
      known.count += 1;
    } else if (this.#counted.size < maximumKeys(event) || key === OVERFLOW.type) {
      this.#counted.set(key, { event, count: 1, writtenMs: undefined });
    } else {
      this.count(OVERFLOW.type, OVERFLOW);
    }
  }

  /** Writes what is due. */
  async flush(): Promise<void> {
    await this.#write((one) => this.#isDue(one));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.#write(() => true);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        await this.#clock.wait(FLUSH_MS, signal);
        await this.flush();
      } catch (error) {
        if (!signal.aborted) this.#log.error({ err: error }, 'refusals could not be written');
      }
    }
  }

  async #write(due: (one: Counted) => boolean): Promise<void> {
    const chosen = [...this.#counted.values()].filter((one) => one.count > 0 && due(one));
    if (chosen.length > 0) {
      const events = chosen.map(withCount);
      const counts = chosen.map(({ count }) => count);
      await this.#store.transaction((tx) => this.#audit.append(tx, ...events));
      for (const [at, one] of chosen.entries()) {
        one.count -= counts[at] ?? 0;
        one.writtenMs = this.#clock.monotonicMs();
      }
    }
    for (const [key, one] of this.#counted) {
      if (one.count === 0 && this.#isDue(one)) this.#counted.delete(key);
    }
  }

  #isDue({ writtenMs }: Counted): boolean {
    return writtenMs === undefined || this.#clock.monotonicMs() - writtenMs >= QUIET_MS;
  }
}

function maximumKeys({ actor }: EventInit): number {
  const isKnown = actor?.kind !== undefined && actor.kind !== 'unknown';
  return isKnown ? MAXIMUM_KEYS_OF_ALL : MAXIMUM_KEYS;
}

function withCount({ event, count }: Counted): EventInit {
  return { ...event, attributes: { ...event.attributes, count: String(count) } };
}
