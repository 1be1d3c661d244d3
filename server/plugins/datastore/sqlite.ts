/**
 * Datastore `sqlite`, through libsql. Traps it holds off: a value of a type that libsql does not know
 * aborts the process, text ends at NUL when read back, `get` and `all` give blobs as different types,
 * and two transactions on one connection collide.
 */
import { closeSync, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Fault } from '../../../runtime/fault.ts';
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
import type { Upgrade } from './schema-upgrade.ts';
import { Checkpoints } from './sqlite-checkpoints.ts';
import { Connection, isLocked } from './sqlite-connection.ts';
import { findRows, insertRows } from './sqlite-rows.ts';
import { migrateSqlite } from './sqlite-schema.ts';

/** How long after it was asked for a transaction still waits for another process's lock. */
const LOCK_WAIT_MS = 1000;
const LOCK_LOOK_MS = 20;

/**
 * Opens the store; an empty one gets its schema.
 * @param file a path, made with mode 0600 if it is not there, or `:memory:`
 * @param migrations up to the version that the schema is to have
 * @param upgrade without it an older schema is refused
 * @throws Fault STATE_UNUSABLE if its schema is another than this program's, or it is no store of ours
 */
export async function openSqlite(
  file: string,
  migrations: readonly Migration[] = MIGRATIONS,
  upgrade?: Upgrade,
): Promise<Datastore> {
  if (file === ':memory:') {
    const only = new Connection(file);
    await migrateSqlite(only, migrations, undefined);
    return new SqliteStore(file, only, only);
  }
  try {
    closeSync(openSync(file, 'a', 0o600));
    const writer = new Connection(file);
    await migrateSqlite(writer, migrations, upgrade && ((from) => added(writer, from, upgrade)));
    writer.exec('pragma busy_timeout = 0');
    return new SqliteStore(file, writer, new Connection(file));
  } catch (error) {
    if (error instanceof Fault && error.code !== 'STORE_UNAVAILABLE') throw error;
    throw new Fault('STATE_UNUSABLE', `the store ${file} cannot be opened`, { cause: error });
  }
}

async function added(writer: Connection, from: number, upgrade: Upgrade): Promise<void> {
  const tx = new SqliteTransaction(writer);
  await upgrade(tx, from);
  tx.end();
}

class SqliteStore implements Datastore {
  readonly foreignCommits = undefined;
  readonly #file: string;
  readonly #writer: Connection;
  readonly #reader: Connection;
  readonly #checkpoints: Checkpoints | undefined;
  #queue: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(file: string, writer: Connection, reader: Connection) {
    this.#file = file;
    this.#writer = writer;
    this.#reader = reader;
    this.#checkpoints = writer === reader ? undefined : new Checkpoints(file);
  }

  async get(sql: string, ...parameters: readonly SqlValue[]): Promise<Row | undefined> {
    return this.#read(async (connection) => connection.get(sql, parameters));
  }

  all(sql: string, ...parameters: readonly SqlValue[]): Promise<Row[]> {
    return this.#read(async (connection) => connection.all(sql, parameters));
  }

  findMany(init: KeysInit): Promise<Row[]> {
    return this.#read((connection) => findRows(() => this.#live(connection), init));
  }

  async snapshot(): Promise<Snapshot> {
    this.#live(this.#reader);
    if (this.#file === ':memory:') throw new Error('a store in memory has no snapshots');
    return new SqliteSnapshot(new Connection(this.#file));
  }

  transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    // Counted from here, so that those that queue behind a lock give up together and not one by one.
    const giveUpMs = performance.now() + LOCK_WAIT_MS;
    return this.#inTurn(async () => {
      await this.#begin(giveUpMs);
      const tx = new SqliteTransaction(this.#writer);
      const result = await this.#commit(tx, work);
      this.#checkpoints?.written(tx.rows);
      // Still in this transaction's turn, so that what they feed sees changes in the order of commits.
      for (const then of tx.afterCommits) then();
      return result;
    });
  }

  async #commit<T>(tx: SqliteTransaction, work: (tx: Transaction) => Promise<T>): Promise<T> {
    try {
      const result = await work(tx);
      this.#writer.exec('commit');
      return result;
    } catch (error) {
      this.#writer.rollBack();
      throw error;
    } finally {
      tx.end();
    }
  }

  /** Once it holds the write lock nothing else of a transaction can find the store locked. */
  async #begin(giveUpMs: number): Promise<void> {
    for (;;) {
      try {
        this.#live(this.#writer).exec('begin immediate');
        return;
      } catch (error) {
        if (!isLocked(error) || performance.now() >= giveUpMs) throw error;
      }
      await sleep(LOCK_LOOK_MS);
    }
  }

  #read<T>(act: (connection: Connection) => Promise<T>): Promise<T> {
    const read = async () => act(this.#live(this.#reader));
    // With one connection a read in the middle of a transaction would see what is not committed.
    return this.#reader === this.#writer ? this.#inTurn(read) : read();
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(act);
    this.#queue = turn.catch(() => undefined);
    return turn;
  }

  #live(connection: Connection): Connection {
    if (this.#closed) throw new Fault('STORE_UNAVAILABLE', 'the store is closed');
    return connection;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inTurn(async () => {
      if (this.#closed) return;
      this.#closed = true;
      await this.#checkpoints?.[Symbol.asyncDispose]();
      if (this.#reader !== this.#writer) this.#reader.close();
      this.#writer.close();
    });
  }
}

/** A transaction of readers on a connection of its own: WAL shows it what was committed at its first read. */
class SqliteSnapshot implements Snapshot {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
    connection.exec('begin');
    connection.all('select 1 from meta limit 1', []);
  }

  async get(sql: string, ...parameters: readonly SqlValue[]): Promise<Row | undefined> {
    return this.#connection.get(sql, parameters);
  }

  async all(sql: string, ...parameters: readonly SqlValue[]): Promise<Row[]> {
    return this.#connection.all(sql, parameters);
  }

  findMany(init: KeysInit): Promise<Row[]> {
    return findRows(() => this.#connection, init);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#connection.rollBack();
    this.#connection.close();
  }
}

class SqliteTransaction implements Transaction {
  readonly #connection: Connection;
  readonly afterCommits: (() => void)[] = [];
  /** How many it has changed. */
  rows = 0;
  #open = true;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  async get(sql: string, ...parameters: readonly SqlValue[]): Promise<Row | undefined> {
    return this.#live().get(sql, parameters);
  }

  async all(sql: string, ...parameters: readonly SqlValue[]): Promise<Row[]> {
    return this.#live().all(sql, parameters);
  }

  async run(sql: string, ...parameters: readonly SqlValue[]): Promise<number> {
    const rows = this.#live().run(sql, parameters);
    this.rows += rows;
    return rows;
  }

  findMany(init: KeysInit): Promise<Row[]> {
    return findRows(() => this.#live(), init);
  }

  insertMany(init: RowsInit): Promise<void> {
    this.rows += init.rows.length;
    return insertRows(() => this.#live(), init);
  }

  afterCommit(then: () => void): void {
    this.#live();
    this.afterCommits.push(then);
  }

  end(): void {
    this.#open = false;
  }

  #live(): Connection {
    if (!this.#open) throw new Error('a transaction was used after its end');
    return this.#connection;
  }
}
