/** What workloads with the same identities are told of a state: composed and encoded once for them all. */
import type { DescMessage, MessageInitShape } from '@bufbuild/protobuf';
import { Encoded } from '../../runtime/grpc.ts';
import type { CacheState, Identity } from '../svid/cache.ts';

/** Of one state; workloads decide by their groups how many there are. */
const MAXIMUM_HELD = 256;

export interface Composed<S extends DescMessage> {
  readonly message: MessageInitShape<S>;
  /** When it has to be composed anew though nothing has changed; undefined: never. */
  readonly until?: Date;
}

/** What a message is about. */
export interface Told {
  readonly state: CacheState;
  /** Of the state. */
  readonly identities: readonly Identity[];
  /** Whether the workload has been told nothing yet. */
  readonly isFirst: boolean;
}

/** Undefined: there will be something to send, but not yet. @throws Fault if there is nothing */
export type Compose<S extends DescMessage> = (told: Told, now: Date) => Composed<S> | undefined;

interface Held<S extends DescMessage> {
  readonly encoded: Encoded<S>;
  readonly until: Date | undefined;
}

export class StateMessages<S extends DescMessage> {
  readonly #schema: S;
  readonly #compose: Compose<S>;
  /** What is held of a state goes with it, private keys too. */
  readonly #held = new WeakMap<CacheState, Map<string, Held<S>>>();

  constructor(schema: S, compose: Compose<S>) {
    this.#schema = schema;
    this.#compose = compose;
  }

  /** Undefined, or `throws`: as `Compose`. */
  of(told: Told, now: Date): Encoded<S> | undefined {
    const { state, identities, isFirst } = told;
    const ofState = this.#held.get(state) ?? new Map<string, Held<S>>();
    this.#held.set(state, ofState);
    const key = JSON.stringify([isFirst, ...identities.map(({ entry }) => entry.id)]);
    const held = ofState.get(key);
    if (held !== undefined && (held.until === undefined || held.until > now)) return held.encoded;
    const composed = this.#compose(told, now);
    if (composed === undefined) return undefined;
    const encoded = new Encoded(this.#schema, composed.message);
    if (held !== undefined || ofState.size < MAXIMUM_HELD) {
      ofState.set(key, { encoded, until: composed.until });
    }
    return encoded;
  }
}
