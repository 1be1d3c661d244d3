import { setImmediate as breathe } from 'node:timers/promises';
import type { KeysInit, Row, RowsInit } from './datastore.ts';
import type { Connection } from './sqlite-connection.ts';

/** A few milliseconds' worth, before others get a turn. */
const ROWS_AT_ONCE = 250;
/** Few sizes of statements, so that each is prepared once. */
const ROWS_A_STATEMENT = 50;
/** Texts that are kept. */
const MOST_INSERTIONS = 200;

/**
 * Inserts rows in their order. The time goes into the binding of values, so a value that a whole column
 * has is bound once.
 * @param live the connection, or throws if its transaction has ended
 */
export async function insertRows(
  live: () => Connection,
  { table, columns, rows }: RowsInit,
): Promise<void> {
  const [first] = rows;
  if (first === undefined) return;
  const isShared = columns.map((_, at) => rows.every((row) => row[at] === first[at]));
  const shared = first.filter((_, at) => isShared[at]);
  const own = columns.map((_, at) => at).filter((at) => !isShared[at]);
  const sql = (size: number) => insertion({ table, columns, isShared, size });
  for (let start = 0, size = 0; start < rows.length; start += size) {
    size = rows.length - start >= ROWS_A_STATEMENT ? ROWS_A_STATEMENT : 1;
    if (start % ROWS_AT_ONCE === 0 && start > 0) await breathe();
    const values = [...shared];
    for (let n = start; n < start + size; n += 1)
      for (const at of own) values.push(rows[n]?.[at] ?? null);
    live().run(sql(size), values);
  }
}

interface Insertion {
  readonly table: string;
  readonly columns: readonly string[];
  readonly isShared: readonly boolean[];
  readonly size: number;
}

/** Few: by table, the columns that its callers share, and two sizes. */
const INSERTIONS = new Map<string, string>();

function insertion({ table, columns, isShared, size }: Insertion): string {
  const names = columns.join(', ');
  const key = `${table}(${names})${isShared.join()} ${size}`;
  const known = INSERTIONS.get(key);
  if (known !== undefined) return known;
  const sql = `insert into ${table} (${names}) values ${places(isShared, size)}`;
  if (INSERTIONS.size >= MOST_INSERTIONS) INSERTIONS.clear();
  INSERTIONS.set(key, sql);
  return sql;
}

/** `(?1, ?3), (?1, ?4)`: the shared values come first. */
function places(isShared: readonly boolean[], rows: number): string {
  let own = isShared.filter(Boolean).length;
  const row = () => {
    let common = 0;
    const numbers = isShared.map((shared) => {
      if (shared) common += 1;
      else own += 1;
      return `?${shared ? common : own}`;
    });
    return `(${numbers.join(', ')})`;
  };
  return Array.from({ length: rows }, row).join(', ');
}

/** Rows by key. @param live as above */
export async function findRows(
  live: () => Connection,
  { table, columns, by, keys }: KeysInit,
): Promise<Row[]> {
  const where = by.map((column) => `${column} = ?`).join(' and ');
  const sql = `select ${columns.join(', ')} from ${table} where ${where}`;
  const found: Row[] = [];
  for (const [at, key] of keys.entries()) {
    if (at % ROWS_AT_ONCE === 0 && at > 0) await breathe();
    const row = live().get(sql, key);
    if (row !== undefined) found.push(row);
  }
  return found;
}
