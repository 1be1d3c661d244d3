/** A value as it stands in a row: integers are JS numbers up to 2^53, blobs `Uint8Array`. */
export type SqlValue = string | number | bigint | Uint8Array | null;

export type Row = Readonly<Record<string, SqlValue>>;

/** SQL with `?` placeholders, in the part of the language that SQLite and PostgreSQL share. */
export interface Reader {
  get(sql: string, ...parameters: readonly SqlValue[]): Promise<Row | undefined>;
  all(sql: string, ...parameters: readonly SqlValue[]): Promise<Row[]>;
}

export interface Transaction extends Reader {
  /** Resolves with the number of rows changed. */
  run(sql: string, ...parameters: readonly SqlValue[]): Promise<number>;

  /** Runs once the transaction is durable; never if it rolls back. Must not throw. */
  afterCommit(then: () => void): void;
}

/**
 * Kind: Datastore. Transactions are serialised (one writer), isolated, and durable when `transaction`
 * resolves: a crash after that loses nothing. If `work` throws, nothing of it remains. Reads see
 * committed state alone. A store that fails throws Fault STORE_UNAVAILABLE.
 */
export interface Datastore extends Reader, AsyncDisposable {
  transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T>;
}
