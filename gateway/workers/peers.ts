/** The processes of one gateway that serve its clients, as one protocol in one of them sees them. */
export interface Peers {
  /** Of this process; 0 in a gateway of one process. */
  readonly index: number;
  readonly count: number;
  /**
   * Hands a message to the same protocol in another process. Resolves once it was dealt with there, or
   * if there is nobody. Does not reject.
   * @param message what `structuredClone` takes
   */
  tell(index: number, message: unknown): Promise<void>;
  /** Takes what others tell. Called once, by a protocol that has something to be told. */
  onTold(handle: (message: unknown) => Promise<void>): void;
}

/** A gateway of one process. */
export const ALONE: Peers = {
  index: 0,
  count: 1,
  tell: async () => undefined,
  onTold: () => undefined,
};

export interface LeaseNames {
  /** What roles of this process are held under. */
  readonly own: string;
  /** Whether what is held under `name`, and is not this process's to keep, is this process's to end. */
  isOurs(name: string): boolean;
}

/**
 * What a process of a gateway writes beside what it leaves in a backend. A process ends what its
 * predecessor of the same index left; the first one also what indices left that are no more.
 * @param gateway its SPIFFE ID
 */
export function leaseNames(
  gateway: string,
  { index, count }: Pick<Peers, 'index' | 'count'> = ALONE,
): LeaseNames {
  const own = count === 1 ? gateway : `${gateway}#${index}`;
  const living = new Set(Array.from({ length: count }, (_, other) => `${gateway}#${other}`));
  const isOfGateway = (name: string) => name === gateway || name.startsWith(`${gateway}#`);
  return {
    own,
    isOurs: (name) =>
      name === own || (index === 0 && isOfGateway(name) && (count === 1 || !living.has(name))),
  };
}
