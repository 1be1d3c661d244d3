import { existsSync } from 'node:fs';
import type { Migration } from './migrations.ts';
import { type Addition, migrationsFrom } from './schema-upgrade.ts';
import { Connection } from './sqlite-connection.ts';

/**
 * Makes the schema of an empty store, or brings an older one up to date: all versions or none.
 * @param add what an upgrade writes in the same transaction; without it an older schema is refused
 * @throws Fault STATE_UNUSABLE if the schema is newer than the program's, or older and refused
 */
export async function migrateSqlite(
  connection: Connection,
  migrations: readonly Migration[],
  add: Addition | undefined,
): Promise<void> {
  const missing = () => migrationsFrom(versionOf(connection), migrations, add !== undefined);
  if (missing().length === 0) return;
  connection.exec('begin immediate');
  try {
    const from = versionOf(connection);
    for (const { version, sql } of missing()) {
      connection.exec(sql);
      connection.exec(`pragma user_version = ${version}`);
    }
    if (from > 0) await add?.(from);
    connection.exec('commit');
  } catch (error) {
    connection.rollBack();
    throw error;
  }
}

/** The version of a store's schema, 0 if there is none. */
export function sqliteSchemaVersion(file: string): number {
  if (!existsSync(file)) return 0;
  const connection = new Connection(file);
  try {
    return versionOf(connection);
  } finally {
    connection.close();
  }
}

function versionOf(connection: Connection): number {
  return Number(connection.all('pragma user_version', [])[0]?.user_version);
}
