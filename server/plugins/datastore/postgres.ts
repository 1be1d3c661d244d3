/**
 * Datastore `postgres`, through pg. Writers of all servers on a database take turns by a lock that each
 * transaction holds to its end, so that READ COMMITTED reads there what SERIALIZABLE would, without
 * its failures. A connection that failed is dropped, and the next call opens another.
 */
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { Fault } from '../../../runtime/fault.ts';
import type { WatchedSource } from '../../../runtime/watched.ts';
import type {
  Datastore,
  KeysInit,
  Row,
  RowsInit,
  Snapshot,
  SqlValue,
  Transaction,
} from './datastore.ts';
import { MIGRATIONS, type Migration } from './migrations.ts';
import { CommitListener } from './postgres-commits.ts';
import {
  clientConfig,
  execute,
  findRows,
  insertRows,
  type Outcome,
  Statements,
} from './postgres-connection.ts';
import { openError, storeError } from './postgres-errors.ts';
import { beginWriting, migratePostgres } from './postgres-schema.ts';
import type { PostgresTarget } from './postgres-url.ts';
import type { Upgrade } from './schema-upgrade.ts';

const READERS = 4;
const READ_TIMEOUT_MS = 10_000;
const WRITE_TIMEOUT_MS = 30_000;
const IDLE_MS = 60_000;
/** How long after it was asked for a transaction may still begin. */
const TURN_WAIT_MS = 10_000;

/**
 * Connects; an empty store gets its schema.
 * @param migrations up to the version that the schema is to have
 * @param upgrade without it an older schema is refused
 * @throws Fault STATE_UNUSABLE that says what to mend
 */
export async function openPostgres(
  target: PostgresTarget,
  migrations: readonly Migration[] = MIGRATIONS,
  upgrade?: Upgrade,
): Promise<Datastore> {
  const pools = {
    writer: poolOf(target, WRITE_TIMEOUT_MS, 1),
    readers: poolOf(target, READ_TIMEOUT_MS, READERS),
  };
  try {
    const client = await pools.writer.connect();
    try {
      const add = upgrade && ((from: number) => added(client, from, upgrade));
      await migratePostgres(client, migrations, add);
    } finally {
      client.release();
    }
  } catch (error) {
    await Promise.all([pools.writer.end(), pools.readers.end()]);
    throw openError(error, target);
  }
  const origin = randomUUID();
  const listener = new CommitListener(clientConfig(target, READ_TIMEOUT_MS), origin);
  const schemaVersion = migrations.at(-1)?.version ?? 0;
  return new PostgresStore({ ...pools, listener, origin, schemaVersion });
}

async function added(client: pg.ClientBase, from: number, upgrade: Upgrade): Promise<void> {
  const tx = new PostgresTransaction(client, new Statements());
  await upgrade(tx, from);
  await tx.end();
}

function poolOf(target: PostgresTarget, statementTimeoutMs: number, max: number): pg.Pool {
  const config = clientConfig(target, statementTimeoutMs);
  const pool = new pg.Pool({ ...config, max, idleTimeoutMillis: IDLE_MS });
  // An idle connection that is lost is dropped by the pool; whoever needs one next learns of it.
  pool.on('error', () => undefined);
  return pool;
}

interface Parts {
  readonly writer: pg.Pool;
  readonly readers: pg.Pool;
  readonly listener: CommitListener;
  /** By which a server knows its own commits. */
  readonly origin: string;
  readonly schemaVersion: number;
}

class PostgresStore implements Datastore {
  readonly #parts: Parts;
  readonly #statements = new Statements();
  #queue: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  get foreignCommits(): WatchedSource<number> {
    return this.#parts.listener.count;
  }

  async get(sql: string, ...parameters: readonly SqlValue[]): Promise<Row | undefined> {
    const rows = await this.all(sql, ...parameters);
    return rows[0];
  }

  async all(sql: string, ...parameters: readonly SqlValue[]): Promise<Row[]> {
    return this.#with(this.#parts.readers, async (client) => {
      const { rows } = await execute(client, this.#statements.of(sql), parameters);
      return rows;
    });
  }

  findMany(init: KeysInit): Promise<Row[]> {
    return this.#with(this.#parts.readers, (client) => findRows(client, this.#statements, init));
  }

  async snapshot(): Promise<Snapshot> {
    if (this.#closed) throw unavailable('the store is closed');
    const client = await this.#parts.readers.connect().catch((error: unknown) => {
      throw storeError(error);
    });
    try {
      // What it shows is settled by its first statement.
      await plainQuery(client, 'begin isolation level repeatable read read only; select 1');
    } catch (error) {
      client.release(true);
      throw error;
    }
    return new PostgresSnapshot(client, this.#statements);
  }

  transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    // Counted from here, so that those that queue behind a lost store give up together.
    const giveUpMs = performance.now() + TURN_WAIT_MS;
    const turn = this.#queue.then(async () => {
      if (performance.now() > giveUpMs) throw unavailable('the store does not keep up');
      const tx = await this.#with(this.#parts.writer, (client) => this.#transact(client, work));
      // Still in this transaction's turn, so that what they feed sees changes in the order of commits.
      for (const then of tx.afterCommits) then();
      return tx.result;
    });
    this.#queue = turn.catch(() => undefined);
    return turn;
  }

  async #transact<T>(client: pg.ClientBase, work: (tx: Transaction) => Promise<T>) {
    await beginWriting(client, this.#parts.schemaVersion);
    const tx = new PostgresTransaction(client, this.#statements);
    try {
      const result = await work(tx);
      await tx.end();
      const told = tx.hasWritten
        ? `select pg_notify('writ_commit', '${this.#parts.origin}'); `
        : '';
      await plainQuery(client, `${told}commit`);
      return { result, afterCommits: tx.afterCommits };
    } catch (error) {
      await tx.end();
      await plainQuery(client, 'rollback').catch(() => undefined);
      throw error;
    }
  }

  /** A connection that fails for a reason of its own is not used again. */
  async #with<T>(pool: pg.Pool, act: (client: pg.ClientBase) => Promise<T>): Promise<T> {
    if (this.#closed) throw unavailable('the store is closed');
    const client = await pool.connect().catch((error: unknown) => {
      throw storeError(error);
    });
    let lost = false;
    const lose = () => {
      lost = true;
    };
    client.on('error', lose);
    try {
      return await act(client);
    } catch (error) {
      lost ||= error instanceof Fault && error.code === 'STORE_UNAVAILABLE';
      throw error;
    } finally {
      client.removeListener('error', lose);
      client.release(lost);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    const { writer, readers, listener } = this.#parts;
    await this.#queue;
    this.#closed = true;
    await Promise.all([listener[Symbol.asyncDispose](), writer.end(), readers.end()]);
  }
}

/** One read after the other, on a connection that is not used again. */
class PostgresSnapshot implements Snapshot {
  readonly #client: pg.PoolClient;
  readonly #statements: Statements;

  constructor(client: pg.PoolClient, statements: Statements) {
    this.#client = client;
    this.#statements = statements;
    client.on('error', () => undefined);
  }

  async get(sql: string, ...parameters: readonly SqlValue[]): Promise<Row | undefined> {
    const [row] = await this.all(sql, ...parameters);
    return row;
  }

  async all(sql: string, ...parameters: readonly SqlValue[]): Promise<Row[]> {
    const { rows } = await execute(this.#client, this.#statements.of(sql), parameters);
    return rows;
  }

  findMany(init: KeysInit): Promise<Row[]> {
    return findRows(this.#client, this.#statements, init);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.release(true);
  }
}

class PostgresTransaction implements Transaction {
  readonly #client: pg.ClientBase;
  readonly #statements: Statements;
  readonly afterCommits: (() => void)[] = [];
  hasWritten = false;
  #open = true;
  #last: Promise<unknown> = Promise.resolve();

  constructor(client: pg.ClientBase, statements: Statements) {
    this.#client = client;
    this.#statements = statements;
  }

  async get(sql: string, ...parameters: readonly SqlValue[]): Promise<Row | undefined> {
    const { rows } = await this.#execute(sql, parameters);
    return rows[0];
  }

  async all(sql: string, ...parameters: readonly SqlValue[]): Promise<Row[]> {
    const { rows } = await this.#execute(sql, parameters);
    return rows;
  }

  async run(sql: string, ...parameters: readonly SqlValue[]): Promise<number> {
    const { changed } = await this.#execute(sql, parameters);
    return changed;
  }

  findMany(init: KeysInit): Promise<Row[]> {
    return this.#next(() => findRows(this.#client, this.#statements, init));
  }

  insertMany(init: RowsInit): Promise<void> {
    this.hasWritten = true;
    return this.#next(() => insertRows(this.#client, this.#statements, init));
  }

  afterCommit(then: () => void): void {
    this.#requireOpen();
    this.afterCommits.push(then);
  }

  /** Lets nothing more in, and waits for what is under way. */
  async end(): Promise<void> {
    this.#open = false;
    await this.#last;
  }

  #execute(sql: string, parameters: readonly SqlValue[]): Promise<Outcome> {
    if (!/^\s*select\b/i.test(sql)) this.hasWritten = true;
    return this.#next(() => execute(this.#client, this.#statements.of(sql), parameters));
  }

  /** One at a time, as `pg` has it. */
  #next<T>(act: () => Promise<T>): Promise<T> {
    this.#requireOpen();
    const turn = this.#last.then(act);
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  #requireOpen(): void {
    if (!this.#open) throw new Error('a transaction was used after its end');
  }
}

async function plainQuery(client: pg.ClientBase, sql: string): Promise<void> {
  try {
    await client.query(sql);
  } catch (error) {
    throw storeError(error);
  }
}

function unavailable(message: string): Fault {
  return new Fault('STORE_UNAVAILABLE', message);
}
