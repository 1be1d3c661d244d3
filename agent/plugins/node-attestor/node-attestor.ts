/** Proves this node to the server. Kind: NodeAttestor; its other half is `server/plugins/node-attestor`. */
export interface NodeAttestor {
  /** Name on the wire, in snake_case. */
  readonly type: string;

  /** Whether the same node can be proved again by the same means. */
  readonly canReattest: boolean;

  /** What the server gets first; at most 64 KiB. */
  evidence(signal: AbortSignal): Promise<Uint8Array>;

  /**
   * The answer to a challenge, which an impostor of the server may have made.
   * @throws Fault `ATTESTATION_DENIED` if the attestor expects none
   */
  answer(challenge: Uint8Array, signal: AbortSignal): Promise<Uint8Array>;
}
