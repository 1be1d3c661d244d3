/** A table of the store, as a backup carries it. */
export interface BackedUpTable {
  readonly name: string;
  /** The columns that its rows are read in the order of. */
  readonly key: readonly string[];
  /** The column that the store numbers by itself; a restore raises it (threats M2). */
  readonly numbered?: string;
  /** The version of the schema that made it; the first unless told. */
  readonly since?: number;
}

/** Every table of the newest schema. A test holds this list against the schemas themselves. */
export const BACKED_UP_TABLES: readonly BackedUpTable[] = [
  { name: 'meta', key: ['key'] },
  { name: 'authorities', key: ['id'] },
  { name: 'trusted_authorities', key: ['kind', 'id'], since: 3 },
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
  { name: 'registrars', key: ['spiffe_id'], since: 3 },
  { name: 'oidc_tokens', key: ['sha256'], since: 3 },
  { name: 'federated_bundles', key: ['trust_domain'], since: 3 },
  { name: 'federation_relationships', key: ['trust_domain'], since: 3 },
  { name: 'entry_federation', key: ['trust_domain', 'entry_id'], since: 3 },
  { name: 'secrets', key: ['name'], numbered: 'last_version', since: 4 },
  { name: 'secret_versions', key: ['name', 'version'], since: 4 },
  { name: 'rotations', key: ['backend'], since: 4 },
];

/** The tables that a schema of that version has. */
export function tablesOf(version: number): readonly BackedUpTable[] {
  return BACKED_UP_TABLES.filter(({ since = 1 }) => since <= version);
}
