import Database from 'libsql';
import { Fault } from '../../../runtime/fault.ts';
import type { Row, SqlValue } from './datastore.ts';

/** Of reads and of the first open, where waiting stops the whole process; only a stray sqlite3 shell competes. */
const BUSY_TIMEOUT_MS = 1000;
const MAXIMUM_CACHED_STATEMENTS = 300;
/** Enough for the pages that a thousand new entries touch. */
const CACHE_KIB = 16 * 1024;
/**
 * Of 4 KiB. At so many a commit moves to the database what `Checkpoints` has left, after which the log
 * begins anew; it waits for the disk then, and all else with it.
 */
const CHECKPOINT_PAGES = 16_000;
/** What libsql adds to the row that `get` returns. */
const LIBSQL_EXTRA = '_metadata';

/** One connection: synchronous, and every failure a Fault STORE_UNAVAILABLE unless it is a bug of ours. */
export class Connection {
  readonly #database: Database.Database;
  readonly #statements = new Map<string, Database.Statement>();

  constructor(file: string) {
    this.#database = new Database(file, { timeout: BUSY_TIMEOUT_MS });
    this.#database.pragma('journal_mode = wal');
    this.#database.pragma('synchronous = full');
    this.#database.pragma('foreign_keys = on');
    this.#database.pragma(`cache_size = -${CACHE_KIB}`);
    this.#database.pragma(`wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
  }

  exec(sql: string): void {
    storeErrors(() => this.#database.exec(sql));
  }

  run(sql: string, parameters: readonly SqlValue[]): number {
    return storeErrors(() => this.#prepare(sql).run(parameters.map(bindable)).changes);
  }

  all(sql: string, parameters: readonly SqlValue[]): Row[] {
    // A single blob as the only argument would be taken for the list of parameters: always pass the list.
    return storeErrors(() => this.#prepare(sql).all(parameters.map(bindable)).map(readable));
  }

  /** The first row. */
  get(sql: string, parameters: readonly SqlValue[]): Row | undefined {
    return storeErrors(() => {
      const row = this.#prepare(sql).get(parameters.map(bindable));
      return row === undefined ? undefined : readable(row);
    });
  }

  /** Leaves no transaction open; SQLite itself has already rolled back after some failures. */
  rollBack(): void {
    if (this.#database.inTransaction) this.exec('rollback');
  }

  close(): void {
    this.#statements.clear();
    this.#database.close();
  }

  #prepare(sql: string): Database.Statement {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    if (this.#statements.size >= MAXIMUM_CACHED_STATEMENTS) this.#statements.clear();
    const statement = this.#database.prepare(sql);
    this.#statements.set(sql, statement);
    return statement;
  }
}

/** Whole numbers go as integers: libsql would bind every JS number as a REAL. */
function bindable(value: SqlValue): SqlValue {
  if (value === null || typeof value === 'bigint' || value instanceof Uint8Array) return value;
  if (typeof value === 'number') return Number.isSafeInteger(value) ? BigInt(value) : value;
  if (typeof value !== 'string') throw new TypeError(`a ${typeof value} cannot stand in a row`);
  if (value.includes('\0')) throw new Fault('INVALID_ARGUMENT', 'text must not hold a NUL');
  return value;
}

function readable(row: unknown): Row {
  const values = row as Record<string, SqlValue | ArrayBuffer>;
  const read: Record<string, SqlValue> = {};
  for (const name in values) {
    if (name !== LIBSQL_EXTRA) read[name] = plain(values[name] ?? null);
  }
  return read;
}

/** `get` gives a blob as a Buffer, `all` as an ArrayBuffer. */
function plain(value: SqlValue | ArrayBuffer): SqlValue {
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (!Buffer.isBuffer(value)) return value;
  return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
}

/** A wrong statement or a broken constraint is a bug of ours; everything else is the store's failure. */
const OUR_BUGS = /^SQLITE_(ERROR|CONSTRAINT|MISMATCH|MISUSE|RANGE)/;

/** Whether another process holds the store's lock. */
export function isLocked(error: unknown): boolean {
  const cause = error instanceof Fault ? error.cause : undefined;
  return cause instanceof Error && 'code' in cause && String(cause.code).startsWith('SQLITE_BUSY');
}

function storeErrors<T>(act: () => T): T {
  try {
    return act();
  } catch (error) {
    if (error instanceof Fault || error instanceof TypeError) throw error;
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    if (OUR_BUGS.test(code)) throw error;
    throw new Fault('STORE_UNAVAILABLE', 'the store cannot be read or written now', {
      cause: error,
    });
  }
}
