import type pg from 'pg';
import type { KeysInit, Row, RowsInit, SqlValue } from './datastore.ts';
import { postgresStatement } from './dialect.ts';
import { storeError } from './postgres-errors.ts';
import type { PostgresTarget } from './postgres-url.ts';
import { bindable, columnArray, ROW_TYPES } from './postgres-values.ts';

const CONNECT_TIMEOUT_MS = 5000;
/** PostgreSQL's own limit comes first; ours is for a server that does not answer any more. */
const ANSWER_MARGIN_MS = 2000;
const KEEP_ALIVE_MS = 10_000;
/** A server that hangs in a transaction keeps all others from writing for so long. */
const IDLE_IN_TRANSACTION_MS = 10_000;
const LOCK_TIMEOUT_MS = 5000;
/** Statements that a connection keeps parsed; ours are few. */
const MAXIMUM_NAMED = 500;
const MAXIMUM_INSERTED = 5000;

/** How to connect: nothing comes from the environment but what `pg` asks there and we do not set. */
export function clientConfig(
  { host, port, user, password, database, ssl, options }: PostgresTarget,
  statementTimeoutMs: number,
): pg.ClientConfig {
  return {
    ...{ host, port, user, password, database, ssl },
    ...(options !== '' && { options }),
    application_name: 'writ-server',
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    statement_timeout: statementTimeoutMs,
    query_timeout: statementTimeoutMs + ANSWER_MARGIN_MS,
    lock_timeout: LOCK_TIMEOUT_MS,
    idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_MS,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
    types: ROW_TYPES as unknown as pg.CustomTypesConfig,
  };
}

interface Prepared {
  readonly text: string;
  readonly name?: string;
}

/** Statements of the program in PostgreSQL's words, each under a name by which connections keep it. */
export class Statements {
  readonly #known = new Map<string, Prepared>();

  of(sql: string): Prepared {
    const known = this.#known.get(sql);
    if (known !== undefined) return known;
    const text = postgresStatement(sql);
    if (this.#known.size >= MAXIMUM_NAMED) return { text };
    const prepared = { text, name: `writ${this.#known.size}` };
    this.#known.set(sql, prepared);
    return prepared;
  }
}

export interface Outcome {
  readonly rows: Row[];
  readonly changed: number;
}

/** One statement. @throws Fault STORE_UNAVAILABLE, or a plain Error for a bug of ours */
export async function execute(
  client: pg.ClientBase,
  prepared: Prepared,
  parameters: readonly SqlValue[],
): Promise<Outcome> {
  const values = parameters.map(bindable);
  try {
    const { rows, rowCount } = await client.query<Row>({ ...prepared, values });
    return { rows, changed: rowCount ?? 0 };
  } catch (error) {
    throw storeError(error);
  }
}

/** Rows by key, with one array for each column of the key. */
export async function findRows(
  client: pg.ClientBase,
  statements: Statements,
  { table, columns, by, keys }: KeysInit,
): Promise<Row[]> {
  const found: Row[] = [];
  for (let start = 0; start < keys.length; start += MAXIMUM_INSERTED) {
    const chunk = keys.slice(start, start + MAXIMUM_INSERTED);
    const arrays = by.map((_, at) => columnArray(chunk.map((key) => key[at] ?? null)));
    const values = arrays.flatMap(({ encoded }) => encoded ?? []);
    const sources = arrays.map(({ type }) => `?::${type ?? 'text'}[]`).join(', ');
    const names = by.map((_, at) => `k${at}`);
    const where = by.map((column, at) => `${column} = given.${names[at]}`).join(' and ');
    // The limit keeps the planner to the index, whatever it thinks of the table's size.
    const sql = `select found.* from unnest(${sources}) as given (${names.join(', ')})
      cross join lateral (select ${columns.join(', ')} from ${table} where ${where} limit 1) found`;
    const { rows } = await execute(client, statements.of(sql), values);
    found.push(...rows);
  }
  return found;
}

/** Inserts rows with one array for each column. */
export async function insertRows(
  client: pg.ClientBase,
  statements: Statements,
  { table, columns, rows }: RowsInit,
): Promise<void> {
  for (let start = 0; start < rows.length; start += MAXIMUM_INSERTED) {
    const chunk = rows.slice(start, start + MAXIMUM_INSERTED);
    const arrays = columns.map((_, at) => columnArray(chunk.map((row) => row[at] ?? null)));
    const values = arrays.flatMap(({ encoded }) => encoded ?? []);
    let count = 0;
    const sources = arrays.map(({ type }) => type && `?::${type}[]`).filter(Boolean);
    const selected = arrays.map(({ type }) => (type === undefined ? 'null' : `c${++count}`));
    const names = sources.map((_, at) => `c${at + 1}`);
    const sql = `insert into ${table} (${columns.join(', ')}) select ${selected.join(', ')}
      from unnest(${sources.join(', ')}) with ordinality as given (${[...names, 'n'].join(', ')})
      order by n`;
    await execute(client, statements.of(sql), values);
  }
}
