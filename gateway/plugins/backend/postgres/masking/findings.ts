import { FindingKind } from '../../../../../proto/gen/writ/gateway/v1/recording_pb.ts';

export interface Finding {
  readonly kind: FindingKind;
  /** Of a detector, pattern or column. */
  readonly name: string;
  readonly count: bigint;
}

/** What was noticed in one session's results and is not in its record yet: counts, never values. */
export class Findings {
  readonly #counts = new Map<string, { readonly kind: FindingKind; name: string; count: bigint }>();

  get isEmpty(): boolean {
    return this.#counts.size === 0;
  }

  /** A detector found a value, and overwrote it or showed it. */
  detected(name: string, masked: boolean): void {
    const kind = masked ? FindingKind.MASKED : FindingKind.SHOWN;
    const key = `${kind} ${name}`;
    const known = this.#counts.get(key);
    if (known === undefined) this.#counts.set(key, { kind, name, count: 1n });
    else known.count += 1n;
  }

  /** All since the last call. */
  take(): readonly Finding[] {
    const all = [...this.#counts.values()];
    this.#counts.clear();
    return all;
  }
}
