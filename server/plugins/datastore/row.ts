import type { Row } from './datastore.ts';

/** A column that holds text. */
export function text(row: Row, column: string): string {
  const value = row[column];
  if (typeof value === 'string') return value;
  throw wrong(column, 'text');
}

/** A column that holds text or null. */
export function optionalText(row: Row, column: string): string | undefined {
  return row[column] === null ? undefined : text(row, column);
}

/** A column that holds an integer of at most 2^53: Unix milliseconds, counts, flags. */
export function integer(row: Row, column: string): number {
  const value = row[column];
  if (typeof value === 'number' && Number.isSafeInteger(value)) return value;
  throw wrong(column, 'an integer');
}

/** A column that holds Unix milliseconds. */
export function instant(row: Row, column: string): Date {
  return new Date(integer(row, column));
}

/** A column that holds bytes. */
export function blob(row: Row, column: string): Uint8Array {
  const value = row[column];
  if (value instanceof Uint8Array) return value;
  throw wrong(column, 'bytes');
}

function wrong(column: string, expected: string): Error {
  return new Error(`column ${column} of the store does not hold ${expected}`);
}
