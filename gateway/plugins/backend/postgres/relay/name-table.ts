/**
 * What the names of prepared statements or portals stand for in the backend. A client may use a name
 * before the backend has said that it took it, so what is under way is kept apart from what is certain.
 *
 * Threat: a name that stands for one statement here and another there makes the record lie. A client
 * can try it: prepare over a name that is taken, do not wait for the error, execute the old one.
 */
export interface NameChange<T> {
  readonly name: string;
  /** Undefined for a Close. */
  readonly value: T | undefined;
  /** Number of the batch, up to its Sync, that it belongs to. */
  readonly batch: number;
  /** Counts how often the table forgot everything. */
  readonly generation: number;
  /** A later batch, which the backend runs even if this change fails, took it for done. */
  reliedOn: boolean;
}

export class NameTable<T> {
  readonly #weigh: (value: T) => number;
  readonly #certain = new Map<string, T>();
  readonly #underWay = new Map<string, NameChange<T>>();
  #generation = 0;
  #weight = 0;

  /** @param weigh what a value counts for `weight`, e.g. its bytes */
  constructor(weigh: (value: T) => number = () => 0) {
    this.#weigh = weigh;
  }

  /** Of all that is certain. */
  get weight(): number {
    return this.#weight;
  }

  get size(): number {
    return this.#certain.size + this.#underWay.size;
  }

  /** What `name` stands for, for a message of this batch; undefined if nothing is known of it. */
  lookup(name: string, batch: number): T | undefined {
    const change = this.#underWay.get(name);
    if (change === undefined) return this.#certain.get(name);
    if (change.batch !== batch) change.reliedOn = true;
    return change.value;
  }

  /** The same for a message that fails by itself if the name means nothing. */
  peek(name: string): T | undefined {
    const change = this.#underWay.get(name);
    return change === undefined ? this.#certain.get(name) : change.value;
  }

  /** A message on its way that gives `name` a meaning, or takes it away. */
  begin(name: string, value: T | undefined, batch: number): NameChange<T> {
    const change = { name, value, batch, generation: this.#generation, reliedOn: false };
    this.#underWay.set(name, change);
    return change;
  }

  /** The backend did it. */
  done(change: NameChange<T>): void {
    const { name, value, generation } = change;
    if (value === undefined || generation === this.#generation) this.#settle(name, value);
    this.#forget(change);
  }

  /**
   * The backend refused or skipped it.
   * @returns false if a later batch already relied on it, so that nobody knows what it ran
   */
  failed(change: NameChange<T>): boolean {
    this.#forget(change);
    return !(change.reliedOn && change.value !== undefined);
  }

  /** Forgets all that is certain: the backend dropped it. */
  clear(): void {
    if (this.#certain.size === 0) return;
    this.#certain.clear();
    this.#weight = 0;
  }

  /** From this message on nobody knows what any name stands for that was given before it. */
  distrust(): void {
    this.#generation += 1;
    this.clear();
    this.#underWay.clear();
  }

  #settle(name: string, value: T | undefined): void {
    const before = this.#certain.get(name);
    if (before !== undefined) this.#weight -= this.#weigh(before);
    this.#certain.delete(name);
    if (value === undefined) return;
    this.#certain.set(name, value);
    this.#weight += this.#weigh(value);
  }

  #forget(change: NameChange<T>): void {
    if (this.#underWay.get(change.name) === change) this.#underWay.delete(change.name);
  }
}
