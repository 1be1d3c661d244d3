import type { Reader, Row } from '../plugins/datastore/datastore.ts';
import { blob, instant, integer, text } from '../plugins/datastore/row.ts';

/** `pending` is not in use yet, `previous` no longer. At most one version of a secret is in each. */
export type SecretState = 'pending' | 'current' | 'previous';

/** What names a version, and what its bytes are bound to. */
export interface SecretPlace {
  readonly name: string;
  readonly version: number;
  /** The backend's user that it is for; empty: the one of the backend's document. */
  readonly login: string;
}

/** A version as the store holds it: nobody can read it without the key manager. */
export interface SealedVersion extends SecretPlace {
  readonly state: SecretState;
  readonly sealed: Uint8Array;
  readonly wrappedKey: Uint8Array;
  readonly keyId: string;
  readonly createdAt: Date;
}

/** A secret that has not been deleted. */
export interface SecretRecord {
  readonly name: string;
  /** The newest first. */
  readonly versions: readonly SealedVersion[];
}

/** All secrets, by name. */
export async function listSecrets(reader: Reader): Promise<SecretRecord[]> {
  const rows = await reader.all('select * from secret_versions order by name, version desc');
  const byName = new Map<string, SealedVersion[]>();
  for (const version of rows.map(versionFromRow)) {
    const known = byName.get(version.name);
    if (known === undefined) byName.set(version.name, [version]);
    else known.push(version);
  }
  return [...byName].map(([name, versions]) => ({ name, versions }));
}

/** The versions of one secret, the newest first; none if there is no such secret. */
export async function secretVersions(reader: Reader, name: string): Promise<SealedVersion[]> {
  const rows = await reader.all(
    'select * from secret_versions where name = ? order by version desc',
    name,
  );
  return rows.map(versionFromRow);
}

export async function findVersion(
  reader: Reader,
  name: string,
  state: SecretState,
): Promise<SealedVersion | undefined> {
  return (await secretVersions(reader, name)).find((version) => version.state === state);
}

/** By name, the number of the version that gateways log in with. */
export async function currentVersions(reader: Reader): Promise<ReadonlyMap<string, number>> {
  const rows = await reader.all(
    `select name, version from secret_versions where state = 'current'`,
  );
  return new Map(rows.map((row) => [text(row, 'name'), integer(row, 'version')]));
}

/** The highest number that a version of this secret ever had, also before it was deleted. */
export async function lastVersion(reader: Reader, name: string): Promise<number> {
  const row = await reader.get('select last_version from secrets where name = ?', name);
  return row === undefined ? 0 : integer(row, 'last_version');
}

function versionFromRow(row: Row): SealedVersion {
  return {
    name: text(row, 'name'),
    version: integer(row, 'version'),
    login: text(row, 'login'),
    state: stateOf(text(row, 'state')),
    sealed: blob(row, 'sealed'),
    wrappedKey: blob(row, 'wrapped_key'),
    keyId: text(row, 'key_id'),
    createdAt: instant(row, 'created_at_ms'),
  };
}

function stateOf(value: string): SecretState {
  if (value === 'pending' || value === 'current' || value === 'previous') return value;
  throw new Error(`${value} is no state of a secret's version`);
}
