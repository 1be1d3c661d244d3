import pg from 'pg';
import { Fault } from '../../../runtime/fault.ts';
import { postgresSchema } from './dialect.ts';
import type { Migration } from './migrations.ts';
import { clientConfig } from './postgres-connection.ts';
import { openError, storeError } from './postgres-errors.ts';
import type { PostgresTarget } from './postgres-url.ts';
import { type Addition, migrationsFrom, newerSchema } from './schema-upgrade.ts';

/** One lock for each schema of a database: 'WRIT', and which one. Held to the end of the transaction. */
const LOCK_WRITERS = 'select pg_advisory_xact_lock(1464816980, hashtext(current_schema()))';

/** That a server has the schema open: shared by servers, and an upgrade's alone. Held by a connection. */
const PRESENCE = '1464816981, hashtext(current_schema())';

const QUERY_TIMEOUT_MS = 30_000;

/**
 * Makes the schema of an empty store, or brings an older one up to date: all versions or none. Of several
 * servers that start at once, one does.
 * @param add what an upgrade writes in the same transaction; without it an older schema is refused
 * @throws Fault STATE_UNUSABLE if the schema is newer than the program's, or older and refused
 */
export async function migratePostgres(
  client: pg.ClientBase,
  migrations: readonly Migration[],
  add: Addition | undefined,
): Promise<void> {
  await client.query(`begin; ${LOCK_WRITERS}`);
  try {
    const known = await schemaVersion(client);
    const from = known ?? 0;
    const missing = migrationsFrom(from, migrations, add !== undefined);
    if (known === undefined) {
      await client.query('create table schema_version (version bigint not null)');
      await client.query('insert into schema_version values (0)');
    }
    for (const { version, sql } of missing) {
      await client.query(postgresSchema(sql));
      await client.query(`update schema_version set version = ${version}`);
    }
    if (from > 0 && missing.length > 0) await add?.(from);
    await client.query('commit');
  } catch (error) {
    await client.query('rollback').catch(() => undefined);
    throw error;
  }
}

/**
 * The version of a store's schema, 0 if there is none.
 * @throws Fault STATE_UNUSABLE if it cannot be reached
 */
export async function postgresSchemaVersion(target: PostgresTarget): Promise<number> {
  const client = await connected(target);
  try {
    return (await schemaVersion(client)) ?? 0;
  } catch (error) {
    throw openError(error, target);
  } finally {
    await client.end().catch(() => undefined);
  }
}

/**
 * Begins a transaction of a writer, whose turn it is once this resolves.
 * @throws Fault STATE_UNUSABLE once a newer program has upgraded the schema of a server that it did not see
 */
export async function beginWriting(client: pg.ClientBase, version: number): Promise<void> {
  const answers = await client
    .query(`begin; ${LOCK_WRITERS}; select version from schema_version`)
    .catch((error: unknown) => {
      throw storeError(error);
    });
  const found = Number((answers as unknown as pg.QueryResult[]).at(-1)?.rows[0]?.version);
  if (found === version) return;
  await client.query('rollback').catch(() => undefined);
  throw newerSchema(found, version);
}

/** Shows upgrades, while the connection lasts, that a server is on the store. */
export async function showPresence(client: pg.ClientBase): Promise<void> {
  const { rows } = await client.query(`select pg_try_advisory_lock_shared(${PRESENCE}) as shown`);
  if (rows[0]?.shown !== 1) throw new Fault('STORE_UNAVAILABLE', 'the store is being upgraded');
}

/**
 * Keeps servers from the store until it is disposed.
 * @throws Fault FAILED_PRECONDITION if one is on it
 */
export async function holdPostgresAlone(target: PostgresTarget): Promise<AsyncDisposable> {
  const client = await connected(target);
  client.on('error', () => undefined);
  const release = () => client.end().catch(() => undefined);
  try {
    const { rows } = await client.query(`select pg_try_advisory_lock(${PRESENCE}) as held`);
    if (rows[0]?.held !== 1)
      throw new Fault(
        'FAILED_PRECONDITION',
        'a server has the store open: stop every server on this database first',
      );
  } catch (error) {
    await release();
    throw openError(error, target);
  }
  return { [Symbol.asyncDispose]: release };
}

async function connected(target: PostgresTarget): Promise<pg.Client> {
  const client = new pg.Client(clientConfig(target, QUERY_TIMEOUT_MS));
  try {
    await client.connect();
    return client;
  } catch (error) {
    await client.end().catch(() => undefined);
    throw openError(error, target);
  }
}

async function schemaVersion(client: pg.ClientBase): Promise<number | undefined> {
  const { rows } = await client.query(`select to_regclass('schema_version') is not null as found`);
  if (rows[0]?.found !== 1) return undefined;
  const version = await client.query('select version from schema_version');
  return Number(version.rows[0]?.version);
}
