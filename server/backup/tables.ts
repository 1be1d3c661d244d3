/** A table of the store, as a backup carries it. */
export interface BackedUpTable {
  readonly name: string;
  /** The columns that its rows are read in the order of. */
  readonly key: readonly string[];
  /** The column that the store numbers by itself; a restore raises it (threats M2). */
  readonly numbered?: string;
}

/** Every table of the schema. A test holds this list against the schema itself. */
export const BACKED_UP_TABLES: readonly BackedUpTable[] = [
  { name: 'meta', key: ['key'] },
  { name: 'authorities', key: ['id'] },
  { name: 'trusted_authorities', key: ['kind', 'id'] },
  { name: 'agents', key: ['id'] },
  { name: 'join_tokens', key: ['handle'] },
  { name: 'entries', key: ['id'] },
  { name: 'entry_events', key: ['seq'], numbered: 'seq' },
  { name: 'identities', key: ['spiffe_id'] },
  { name: 'ledger', key: ['serial'] },
  { name: 'resources', key: ['kind', 'name'] },
  { name: 'revocations', key: ['seq'], numbered: 'seq' },
  { name: 'gateways', key: ['id'] },
  { name: 'sessions', key: ['id'] },
  { name: 'audit_events', key: ['seq'] },
  { name: 'registrars', key: ['spiffe_id'] },
  { name: 'oidc_tokens', key: ['sha256'] },
  { name: 'federated_bundles', key: ['trust_domain'] },
  { name: 'federation_relationships', key: ['trust_domain'] },
  { name: 'entry_federation', key: ['trust_domain', 'entry_id'] },
];
