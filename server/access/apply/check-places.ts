/** What is wrong with where databases are and how they are called, seen over all backends. */
import type {
  Backend,
  Grant,
  PostgresBackend,
  PostgresRights,
} from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Enforce } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { FutureState, Placed } from './future-state.ts';

/** Names that clients use must mean one thing; also of stored backends, which a new one may meet. */
export function checkPlaces(state: FutureState): string[] {
  const problems: string[] = [];
  const clientNames = new Map<string, string>();
  const serverNames = new Map<string, string>();
  for (const name of state.backends.keys()) clientNames.set(name, `the name of backend ${name}`);
  for (const { value: backend, at } of state.backends.values()) {
    if (backend.type.case !== 'postgres') continue;
    const { databases, serverNames: claimed } = backend.type.value;
    for (const name of Object.keys(databases)) {
      const other = clientNames.get(name);
      const path = at(['postgres', 'databases', name]);
      if (other !== undefined) problems.push(`${path}: ${name} is ${other} already`);
      clientNames.set(name, `a database of backend ${backend.name}`);
    }
    for (const [index, name] of claimed.entries()) {
      const other = serverNames.get(name);
      const path = at(['postgres', 'server_names', index]);
      if (other !== undefined) problems.push(`${path}: ${name} is a name of backend ${other}`);
      serverNames.set(name, backend.name);
    }
    problems.push(...checkDatabases(backend.type.value, at), ...checkStandbys(backend, at));
  }
  return problems;
}

type At = Placed<Backend>['at'];

function checkDatabases({ database, databases }: PostgresBackend, at: At): string[] {
  const seen = new Set([database]);
  return Object.entries(databases).flatMap(([name, real]) => {
    const path = at(['postgres', 'databases', name]);
    if (seen.has(real)) return [`${path}: database ${real} has a name already`];
    seen.add(real);
    return [];
  });
}

function checkStandbys({ type }: Backend, at: At): string[] {
  if (type.case !== 'postgres') return [];
  const { enforce, replicas } = type.value;
  return enforce === Enforce.GATEWAY && replicas.length > 0
    ? [`${at(['postgres', 'replicas'])}: sessions of a shared account are on the primary alone`]
    : [];
}

/** The database and the standbys that a grant names. Also of stored grants: the backend may change. */
export function checkGrantPlace(
  { value, at }: Placed<Grant>,
  { backends, unread }: FutureState,
): string[] {
  const { backend: name, rights } = value;
  const type = backends.get(name)?.value.type;
  if (rights.case !== 'postgres') return [];
  const { database, replica } = rights.value;
  const problems = replica ? checkReplica(rights.value, at) : [];
  if (type?.case !== 'postgres' || unread.has(`Backend/${name}`)) return problems;
  if (database !== '' && !Object.hasOwn(type.value.databases, database)) {
    problems.push(`${at(['postgres', 'database'])}: backend ${name} has no database ${database}`);
  }
  if (replica && type.value.replicas.length === 0) {
    problems.push(`${at(['postgres', 'replica'])}: backend ${name} has no replicas`);
  }
  return problems;
}

function checkReplica({ statements }: PostgresRights, at: Placed<Grant>['at']): string[] {
  return statements.every((name) => name === 'read')
    ? []
    : [`${at(['postgres', 'statements'])}: expected read alone: a replica takes nothing else`];
}
