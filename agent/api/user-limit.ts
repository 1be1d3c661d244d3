/** Counts what each user holds of something, so that none takes it from the others. */
export class UserLimit {
  readonly #maximum: number;
  readonly #counts = new Map<number, number>();

  /** @param maximum of one user; root and the agent's own user are not limited */
  constructor(maximum: number) {
    this.#maximum = maximum;
  }

  /** Takes one more for the user; false if that is too many. */
  enter(uid: number): boolean {
    const count = this.#counts.get(uid) ?? 0;
    const limited = uid !== 0 && uid !== process.getuid?.();
    if (limited && count >= this.#maximum) return false;
    this.#counts.set(uid, count + 1);
    return true;
  }

  /** Gives back one that `enter` let the user take. */
  leave(uid: number): void {
    const count = (this.#counts.get(uid) ?? 0) - 1;
    if (count > 0) this.#counts.set(uid, count);
    else this.#counts.delete(uid);
  }
}
