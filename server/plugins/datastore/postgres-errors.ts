import { Fault } from '../../../runtime/fault.ts';
import type { PostgresTarget } from './postgres-url.ts';

/** Classes of SQLSTATE that a wrong statement, a wrong value or a broken constraint of ours has. */
const OUR_BUGS = /^(21|22|23|2F|42(?!501))/;

/**
 * What a failed statement means: a bug of ours is a plain Error, all else STORE_UNAVAILABLE. Neither
 * carries `detail`, where PostgreSQL shows rows.
 */
export function storeError(error: unknown): Error {
  if (error instanceof Fault || error instanceof TypeError) return error;
  const cause = plain(error);
  if (OUR_BUGS.test(sqlState(error))) return cause;
  return new Fault('STORE_UNAVAILABLE', 'the store cannot be read or written now', { cause });
}

/** Why a store cannot be opened, in one line for who configured it. */
export function openError(error: unknown, target: PostgresTarget): Fault {
  if (error instanceof Fault && error.code !== 'STORE_UNAVAILABLE') return error;
  const reason = error instanceof Fault ? error.cause : error;
  return new Fault('STATE_UNUSABLE', sentence(sqlState(reason), reason, target), {
    cause: plain(reason),
  });
}

function sentence(state: string, error: unknown, target: PostgresTarget): string {
  const { host, port, user, database } = target;
  const place = host.startsWith('/') ? host : `${host}:${port}`;
  if (state === '28P01' || state === '28000')
    return `the store at ${place} refuses the login of ${user}: check user, password and pg_hba.conf`;
  if (state === '3D000') return `the store at ${place} has no database ${database}`;
  if (state === '3F000' || state === '42501')
    return `${user} may not make tables in database ${database} at ${place}: grant it CREATE and USAGE on its schema`;
  if (/^[0-9A-Z]{5}$/.test(state))
    return `the store at ${place} cannot be opened: ${plain(error).message}`;
  return `the store at ${place} cannot be reached: ${networkReason(error)}`;
}

function networkReason(error: unknown): string {
  // A name with several addresses fails with one error for each.
  const first = error instanceof AggregateError ? error.errors[0] : error;
  if (first instanceof Error && 'code' in first && typeof first.code === 'string')
    return first.code;
  return first instanceof Error ? first.message : 'unknown error';
}

function sqlState(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string'
    ? error.code
    : '';
}

function plain(error: unknown): Error {
  const state = sqlState(error);
  const message = error instanceof Error ? error.message : String(error);
  return new Error(state === '' ? message : `${state}: ${message}`);
}
