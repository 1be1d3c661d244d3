/** Tells what a local process is. Kind: WorkloadAttestor. */
export interface WorkloadAttestor {
  /** Selector type, in snake_case. */
  readonly type: string;

  /**
   * Selector values of the process, without the type. What cannot be learned is left out: an entry
   * matches on what is held, so less never admits more. The caller checks afterwards that the pid was
   * still the same process.
   */
  attest(pid: number): Promise<readonly string[]>;
}
