import type { WatchedSource } from '../../../runtime/watched.ts';

/** A value as it stands in a row: integers are JS numbers up to 2^53, blobs `Uint8Array`. */
export type SqlValue = string | number | bigint | Uint8Array | null;

export type Row = Readonly<Record<string, SqlValue>>;

/** SQL with `?` placeholders, in the part of the language that SQLite and PostgreSQL share. */
export interface Reader {
  get(sql: string, ...parameters: readonly SqlValue[]): Promise<Row | undefined>;
  all(sql: string, ...parameters: readonly SqlValue[]): Promise<Row[]>;

  /** The rows that have any of these keys, in no order, in a few statements however many they are. */
  findMany(init: KeysInit): Promise<Row[]>;
}

/** Keys of one table's rows. */
export interface KeysInit {
  /** Like its columns a name that the program fixes, never one from outside. */
  readonly table: string;
  /** What to read. */
  readonly columns: readonly string[];
  /** The columns of a unique key. */
  readonly by: readonly string[];
  /** Values in the order of `by`; each key once. */
  readonly keys: readonly (readonly SqlValue[])[];
}

/** Rows for one table. */
export interface RowsInit {
  /** Like its columns a name that the program fixes, never one from outside. */
  readonly table: string;
  readonly columns: readonly string[];
  /** Values in the order of the columns; any number of rows. */
  readonly rows: readonly (readonly SqlValue[])[];
}

export interface Transaction extends Reader {
  /** Resolves with the number of rows changed. */
  run(sql: string, ...parameters: readonly SqlValue[]): Promise<number>;

  /** Inserts rows in their order, in a few statements however many they are. */
  insertMany(init: RowsInit): Promise<void>;

  /** Runs once the transaction is durable; never if it rolls back. Must not throw. */
  afterCommit(then: () => void): void;
}

/** Reads that fit each other, until it is disposed. */
export interface Snapshot extends Reader, AsyncDisposable {}

/**
 * Kind: Datastore. Transactions are serialised (one writer, whichever of the servers on the store it is
 * in), isolated, and durable when `transaction` resolves: a crash after that loses nothing. So numbers
 * that a transaction takes one above the highest there is grow in the order of commits. If `work`
 * throws, nothing of it remains; if the store is lost at the end it may remain, and that is
 * STORE_UNAVAILABLE too. Reads see committed state alone. A store that fails throws Fault
 * STORE_UNAVAILABLE, and serves again by itself once it is back.
 */
export interface Datastore extends Reader, AsyncDisposable {
  transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T>;

  /**
   * Everything as it is now, while writers go on.
   * @throws Fault STORE_UNAVAILABLE
   */
  snapshot(): Promise<Snapshot>;

  /**
   * Counts the signs that another server has committed; each comes at once, but one may be lost.
   * Undefined where no other server can be on the store.
   */
  readonly foreignCommits: WatchedSource<number> | undefined;
}
