import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { EventInit } from './event-spool.ts';

const WINDOW_MS = 60_000;
const LARGEST_WINDOW = 1000;
const OVERFLOW = { type: 'refusals.overflow', outcome: Outcome.DENIED } as const;

/** Where events go: an `EventSpool`. */
export interface EventSink {
  append(event: EventInit): void;
}

interface Counted {
  readonly event: EventInit;
  /** What is not written yet. */
  count: number;
}

/**
 * Events that anyone can cause at will: the first of a kind is written at once, the rest of its minute
 * as one more with a count, so that who has no identity cannot fill the log. Kinds beyond a thousand a
 * minute are counted together.
 */
export class CountedEvents {
  readonly #sink: EventSink;
  readonly #clock: Clock;
  /** Kinds of the running minute. */
  #window = new Map<string, Counted>();
  #endsMs: number;

  constructor(sink: EventSink, clock: Clock) {
    this.#sink = sink;
    this.#clock = clock;
    this.#endsMs = clock.monotonicMs() + WINDOW_MS;
  }

  /**
   * @param key what makes two events the same kind, e.g. address and reason
   * @throws Fault AUDIT_UNWRITABLE
   */
  add(key: string, event: EventInit): void {
    this.tick();
    const known = this.#window.get(key);
    if (known !== undefined) {
      known.count += 1;
    } else if (this.#window.size < LARGEST_WINDOW || key === OVERFLOW.type) {
      this.#window.set(key, { event, count: 0 });
      this.#write({ event, count: 1 });
    } else {
      this.add(OVERFLOW.type, OVERFLOW);
    }
  }

  /** Writes what is due. Called each second. @throws Fault AUDIT_UNWRITABLE */
  tick(): void {
    if (this.#clock.monotonicMs() >= this.#endsMs) this.flush();
  }

  /** Writes all that is counted and begins a new minute. @throws Fault AUDIT_UNWRITABLE */
  flush(): void {
    const window = this.#window;
    this.#window = new Map();
    this.#endsMs = this.#clock.monotonicMs() + WINDOW_MS;
    for (const counted of window.values()) if (counted.count > 0) this.#write(counted);
  }

  #write({ event, count }: Counted): void {
    this.#sink.append({ ...event, attributes: { ...event.attributes, count: String(count) } });
  }
}
