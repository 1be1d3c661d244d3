/** The datastores that the conformance tests run on. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import Database from 'libsql';
import type { Context } from 'mocha';
import pg from 'pg';
import { requirePostgres, startPostgres } from '../fixtures/postgres.ts';

export type StoreName = 'SQLite' | 'PostgreSQL';

export const STORES: readonly StoreName[] = ['SQLite', 'PostgreSQL'];

/** One server's store. */
export interface ServerStore {
  /** What its configuration says of it. */
  readonly config: object;
  /** The number that a statement's only row and column hold. */
  count(sql: string): Promise<number>;
}

export interface Stores extends AsyncDisposable {
  /** A store for a new server, whose files are in `folder`, its state in `stateDir`. */
  create(folder: string, stateDir: string): Promise<ServerStore>;
}

/** Skips the running hook's suite if the machine lacks what the store needs. */
export async function openStores(context: Context, name: StoreName): Promise<Stores> {
  if (name === 'SQLite') return sqliteStores();
  requirePostgres(context, 18);
  return postgresStores();
}

function sqliteStores(): Stores {
  return {
    async create(_folder, stateDir) {
      return {
        config: {},
        async count(sql) {
          const database = new Database(join(stateDir, 'server.db'), { readonly: true });
          try {
            return numberOf(database.prepare(sql).get());
          } finally {
            database.close();
          }
        },
      };
    },
    async [Symbol.asyncDispose]() {},
  };
}

async function postgresStores(): Promise<Stores> {
  const server = await startPostgres({ version: 18 });
  let made = 0;
  return {
    async create(folder) {
      made += 1;
      const name = `writ_${made}`;
      await server.exec(`create database ${name}`);
      const url = `postgres://${server.user}:${server.password}@${server.host}:${server.port}/${name}`;
      const file = join(folder, 'database-url');
      await writeFile(file, `${url}\n`, { mode: 0o600 });
      return {
        config: { datastore: { postgres: { url_file: file } } },
        async count(sql) {
          const client = new pg.Client({ connectionString: url });
          await client.connect();
          try {
            return numberOf((await client.query(sql)).rows[0]);
          } finally {
            await client.end();
          }
        },
      };
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

function numberOf(row: unknown): number {
  if (typeof row !== 'object' || row === null) throw new Error('no row');
  return Number(Object.values(row)[0]);
}
