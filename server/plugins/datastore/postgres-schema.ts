import type pg from 'pg';
import { Fault } from '../../../runtime/fault.ts';
import { postgresSchema } from './dialect.ts';
import type { Migration } from './migrations.ts';

/** One lock for each schema of a database: 'WRIT', and which one. Held to the end of the transaction. */
export const LOCK_WRITERS = 'select pg_advisory_xact_lock(1464816980, hashtext(current_schema()))';

/**
 * Brings the schema up to date, all versions or none; of several servers that start at once, one does.
 * @throws Fault STATE_UNUSABLE if it is newer than this program
 */
export async function migratePostgres(
  client: pg.ClientBase,
  migrations: readonly Migration[],
): Promise<void> {
  await client.query(`begin; ${LOCK_WRITERS}`);
  try {
    const version = await schemaVersion(client);
    const newest = migrations.at(-1)?.version ?? 0;
    if (version > newest) throw newerSchema(version, newest);
    for (const one of migrations.filter((migration) => migration.version > version))
      await client.query(postgresSchema(one.sql));
    if (version < newest) await client.query(`update schema_version set version = ${newest}`);
    await client.query('commit');
  } catch (error) {
    await client.query('rollback').catch(() => undefined);
    throw error;
  }
}

/** Refuses a store that a newer program has used. */
export function newerSchema(version: number, newest: number): Fault {
  return new Fault(
    'STATE_UNUSABLE',
    `the store has schema version ${version}, this program knows ${newest}: run the newer program`,
  );
}

async function schemaVersion(client: pg.ClientBase): Promise<number> {
  const { rows } = await client.query(`select to_regclass('schema_version') is not null as found`);
  if (rows[0]?.found !== 1) {
    await client.query('create table schema_version (version bigint not null)');
    await client.query('insert into schema_version values (0)');
  }
  const version = await client.query('select version from schema_version');
  return Number(version.rows[0]?.version);
}
