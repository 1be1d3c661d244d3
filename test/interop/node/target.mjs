// Where a client program connects, from one JSON argument: see Target in client-world.ts.
import { readFileSync } from 'node:fs';

/** For `pg`, which checks the server's name as verify-full does. */
export function pgConfig({ ca, cert, key, ...place }) {
  if (ca === undefined) return place;
  const read = (file) => (file === undefined ? undefined : readFileSync(file, 'utf8'));
  return { ...place, ssl: { ca: read(ca), cert: read(cert), key: read(key) } };
}

/** Takes a lock that others see, so that they know when it has begun and can be cancelled. */
export const ASLEEP = 'select pg_advisory_xact_lock(77), pg_sleep(30)';
export const IS_ASLEEP =
  "select count(*)::int as n from pg_locks where locktype = 'advisory' and objid = 77";

/** The SQLSTATE of a refused query. */
export async function stateOf(query) {
  try {
    await query;
    return 'allowed';
  } catch (error) {
    return String((error.cause ?? error).code);
  }
}
