import type { PostgresBackend } from '../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../runtime/fault.ts';
import { type Flags, textFlag } from './verb.ts';

/** One of a backend's databases. */
export interface BackendDatabase {
  /** As grants name it; empty: the backend's own. */
  readonly database: string;
  /** In the server. */
  readonly name: string;
}

/**
 * The database that `--database` names as clients do; the backend's own if there is no such flag.
 * @throws Fault NOT_FOUND, naming those that there are
 */
export function backendDatabase(
  flags: Flags,
  backend: string,
  { database: own, databases }: Pick<PostgresBackend, 'database' | 'databases'>,
): BackendDatabase {
  const wanted = textFlag(flags, 'database') ?? backend;
  if (wanted === backend) return { database: '', name: own };
  const found = Object.entries(databases).find(([name]) => name === wanted);
  if (found !== undefined) return { database: found[0], name: found[1] };
  const names = [backend, ...Object.keys(databases)].join(', ');
  throw new Fault('NOT_FOUND', `backend ${backend} has no database ${wanted}, but ${names}`);
}

/**
 * The URL with the database that `--database` names in place of its own; as it is without such a flag.
 * @param name in the server
 */
export function urlOfDatabase(url: string, flags: Flags, name: string): string {
  if (textFlag(flags, 'database') === undefined) return url;
  const changed = new URL(url);
  changed.pathname = `/${encodeURIComponent(name)}`;
  return changed.href;
}
