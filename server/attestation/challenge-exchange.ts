import { Fault } from '../../runtime/fault.ts';
import type { AttestExchange, AttestedNode } from '../plugins/node-attestor/node-attestor.ts';

/** What comes next of an attestation: a challenge to send, or its outcome. */
export type AttestStep = { readonly challenge: Uint8Array } | { readonly node: AttestedNode };

interface Pending<T> {
  readonly resolve: (value: T) => void;
}

/** Joins an attestor, which asks in the middle of its work, to a stream, which is a loop. */
export class ChallengeExchange implements AttestExchange {
  readonly signal: AbortSignal;
  #outcome: Promise<AttestStep> | undefined;
  #challenge: Uint8Array | undefined;
  #wanted: Pending<AttestStep> | undefined;
  #asked: Pending<Uint8Array> | undefined;

  constructor(signal: AbortSignal) {
    this.signal = signal;
  }

  /** Takes up the attestor's work. */
  run(work: Promise<AttestedNode>): void {
    this.#outcome = work.then((node) => ({ node }));
    // `next` hands the failure on; a caller that has gone leaves nobody to hear it.
    this.#outcome.catch(() => undefined);
  }

  /** The attestor's next challenge, or its outcome. */
  next(): Promise<AttestStep> {
    if (this.#outcome === undefined) throw new Error('no attestation is under way');
    const challenge = this.#challenge;
    this.#challenge = undefined;
    if (challenge !== undefined) return Promise.resolve({ challenge });
    const asked = new Promise<AttestStep>((resolve) => {
      this.#wanted = { resolve };
    });
    return Promise.race([asked, this.#outcome]);
  }

  /** Gives the attestor the agent's answer. */
  answer(bytes: Uint8Array): void {
    this.#asked?.resolve(bytes);
    this.#asked = undefined;
  }

  challenge(bytes: Uint8Array): Promise<Uint8Array> {
    if (this.#asked !== undefined)
      return Promise.reject(new Fault('INTERNAL', 'two challenges at once'));
    const answered = new Promise<Uint8Array>((resolve) => {
      this.#asked = { resolve };
    });
    if (this.#wanted === undefined) this.#challenge = bytes;
    else this.#wanted.resolve({ challenge: bytes });
    this.#wanted = undefined;
    return answered;
  }
}
