/** How many connections a listener has, in all and from each address. */
export class ConnectionLimits {
  readonly #maximumConnections: number;
  readonly #maximumPerAddress: number;
  readonly #perAddress = new Map<string, number>();
  #all = 0;

  constructor(limits: {
    readonly maximumConnections: number;
    readonly maximumPerAddress: number;
  }) {
    this.#maximumConnections = limits.maximumConnections;
    this.#maximumPerAddress = limits.maximumPerAddress;
  }

  /** Counts one more, to be undone by `leave`; or the limit that stands against it. */
  enter(address: string): string | undefined {
    const fromThere = this.#perAddress.get(address) ?? 0;
    if (this.#all >= this.#maximumConnections) return 'too many connections';
    if (fromThere >= this.#maximumPerAddress) return 'too many connections from one address';
    this.#all += 1;
    this.#perAddress.set(address, fromThere + 1);
    return undefined;
  }

  leave(address: string): void {
    const left = (this.#perAddress.get(address) ?? 1) - 1;
    this.#all -= 1;
    if (left === 0) this.#perAddress.delete(address);
    else this.#perAddress.set(address, left);
  }
}
