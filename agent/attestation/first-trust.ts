/** By what an agent knows its trust domain's server before it has a bundle (threats S12). */
export type FirstTrust =
  /** Lower-case hex SHA-256 of the DER of roots, from a join string. */
  | { readonly kind: 'pins'; readonly pins: readonly string[] }
  /** The roots themselves, DER: configured, or those of the bundle that the agent has. */
  | { readonly kind: 'roots'; readonly roots: readonly Uint8Array[] }
  /** Whoever answers. */
  | { readonly kind: 'first-use' };
