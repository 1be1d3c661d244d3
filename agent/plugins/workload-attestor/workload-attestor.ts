/** A process that has connected, as the kernel told it at that moment. */
export interface ConnectedProcess {
  readonly pid: number;
  /** Effective. */
  readonly uid: number;
  /** Effective. */
  readonly gid: number;
}

/** Which values somebody asks about, by what stands before the first colon: `path` of `path:/bin/x`. */
export interface WantedValues {
  has(name: string): boolean;
}

export const ALL_VALUES: WantedValues = { has: () => true };

/** Tells what a local process is. Kind: WorkloadAttestor. */
export interface WorkloadAttestor {
  /** Selector type, in snake_case. */
  readonly type: string;

  /**
   * Selector values of the process, without the type. What cannot be learned is left out, and what is
   * not wanted may be: an entry matches on what is held, so less never admits more. The caller checks
   * afterwards that the pid was still the same process.
   * @throws Fault `ATTESTATION_DENIED` if nothing may be believed of it; anything else is a failure to tell
   */
  attest(process: ConnectedProcess, wanted: WantedValues): Promise<readonly string[]>;
}
