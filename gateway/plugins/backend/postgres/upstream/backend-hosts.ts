import { create } from '@bufbuild/protobuf';
import {
  type Backend,
  BackendSchema,
  type PostgresBackend,
  PostgresBackendSchema,
  type PostgresHost,
} from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';

/** The hosts that may be the primary, in the order in which they are tried. */
export function primaryHosts(backend: PostgresBackend): readonly PostgresBackend[] {
  return [backend, ...backend.failover.map((host) => atHost(backend, host))];
}

export function replicaHosts(backend: PostgresBackend): readonly PostgresBackend[] {
  return backend.replicas.map((host) => atHost(backend, host));
}

/**
 * A backend's databases, by the names that grants have for them, each as a backend of that one database.
 * What tells only how clients find it is left out, so that a change of that is none of the database's.
 */
export function databasesOf(backend: Backend): ReadonlyMap<string, DatabaseBackend> {
  const { type } = backend;
  if (type.case !== 'postgres') return new Map();
  const { value } = type;
  const places = [['', value.database] as const, ...Object.entries(value.databases)];
  return new Map(
    places.map(([name, database]) => {
      const of = { ...value, database, databases: {}, serverNames: [] };
      const postgres = create(PostgresBackendSchema, of);
      const whole = create(BackendSchema, { ...backend, type: { case: 'postgres', value: of } });
      return [name, { backend: whole, postgres }];
    }),
  );
}

export interface DatabaseBackend {
  readonly backend: Backend;
  /** Its type's value. */
  readonly postgres: PostgresBackend;
}

function atHost(backend: PostgresBackend, { host, port, serverName }: PostgresHost) {
  const { tls } = backend;
  const theirs = tls === undefined || serverName === '' ? { tls } : { tls: { ...tls, serverName } };
  return create(PostgresBackendSchema, { ...backend, ...theirs, host, port });
}
