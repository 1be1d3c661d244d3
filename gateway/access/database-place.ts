/** Which database of which backend a client means by its `dbname` and its TLS server name. */
import type { Backend, Grant } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { GatewaySnapshot } from './snapshot.ts';

/** What a client names; all of it untrusted. */
export interface NamedDatabase {
  readonly backend: string;
  /** Of the TLS handshake, in whatever case; absent if there was none. */
  readonly serverName?: string;
}

export interface DatabasePlace {
  readonly backend: Backend;
  /** As grants name it; empty: the backend's own. */
  readonly database: string;
}

/**
 * A server name that a backend declares is that backend's alone, and databases then go by their names in
 * the server, or else by those that clients have for them. Any other server name says nothing.
 * @returns undefined if nothing has that name, or nothing that the server name allows
 */
export function databasePlace(
  snapshot: Pick<GatewaySnapshot, 'backends'>,
  { backend: name, serverName }: NamedDatabase,
): DatabasePlace | undefined {
  const claimant = claimantOf(snapshot, serverName);
  if (claimant !== undefined) {
    return databaseInServer(claimant, name) ?? databaseForClients(claimant, name);
  }
  for (const backend of snapshot.backends.values()) {
    const place = databaseForClients(backend, name);
    if (place !== undefined) return place;
  }
  return undefined;
}

/** The backend that a server name belongs to. */
export function claimantOf(
  { backends }: Pick<GatewaySnapshot, 'backends'>,
  serverName: string | undefined,
): Backend | undefined {
  if (serverName === undefined) return undefined;
  const wanted = serverName.toLowerCase();
  return [...backends.values()].find(
    ({ type }) => type.case === 'postgres' && type.value.serverNames.includes(wanted),
  );
}

/** As grants name it; empty: the backend's own. */
export function databaseOfGrant({ rights }: Grant): string {
  return rights.case === 'postgres' ? rights.value.database : '';
}

/** The name by which clients know a database of a backend. */
export function clientName(backend: string, database: string): string {
  return database === '' ? backend : database;
}

function databaseInServer(backend: Backend, name: string): DatabasePlace | undefined {
  if (backend.type.case !== 'postgres') return undefined;
  const { database, databases } = backend.type.value;
  if (database === name) return { backend, database: '' };
  const found = Object.entries(databases).find(([, real]) => real === name);
  return found === undefined ? undefined : { backend, database: found[0] };
}

function databaseForClients(backend: Backend, name: string): DatabasePlace | undefined {
  if (backend.name === name) return { backend, database: '' };
  const { type } = backend;
  if (type.case !== 'postgres' || !Object.hasOwn(type.value.databases, name)) return undefined;
  return { backend, database: name };
}
