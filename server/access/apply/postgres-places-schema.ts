/** Where a PostgreSQL backend's databases are and by which names clients know them. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import * as v from 'valibot';
import type { PostgresBackendSchema } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { isHost, keysBy, resourceName } from './document-fields.ts';
import { sqlName } from './postgres-names.ts';

const MOST_DATABASES = 100;
const MOST_HOSTS = 8;
const MOST_NAMES = 50;
/** As TLS carries it: no address, no trailing dot. */
const SERVER_NAME =
  /^(?=.{1,253}$)(?!.*[.]\d+$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?([.][a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/;

/** A host name or IP address. */
export const hostName = v.pipe(v.string(), v.check(isHost, 'a host name or IP address'));

/** A TCP port, PostgreSQL's own if it is not given. */
export const port = v.optional(
  v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65_535)),
  5432,
);

function distinct<T>(what: string, keyOf: (item: T) => string) {
  return v.check<T[], string>(
    (items) => new Set(items.map(keyOf)).size === items.length,
    `each ${what} once`,
  );
}

const hosts = v.optional(
  v.pipe(
    v.array(v.strictObject({ host: hostName, port, server_name: v.optional(hostName) })),
    v.maxLength(MOST_HOSTS, `at most ${MOST_HOSTS} hosts`),
    distinct('host', ({ host, port: at }) => `${host}:${at}`),
  ),
  [],
);

const serverName = v.pipe(
  v.string(),
  v.toLowerCase(),
  v.regex(SERVER_NAME, 'a DNS name, e.g. shop.db.internal'),
);

function nameProblem(name: string): string | undefined {
  return v.is(resourceName, name) ? undefined : 'a name for clients: 1 to 63 of a-z 0-9 -';
}

const databases = v.optional(
  v.pipe(
    v.unknown(),
    keysBy(nameProblem),
    v.record(v.string(), sqlName),
    v.check(
      (all) => Object.keys(all).length <= MOST_DATABASES,
      `at most ${MOST_DATABASES} databases`,
    ),
  ),
  {},
);

export const postgresPlaceFields = {
  databases,
  failover: hosts,
  replicas: hosts,
  server_names: v.optional(
    v.pipe(
      v.array(serverName),
      v.maxLength(MOST_NAMES, `at most ${MOST_NAMES} names`),
      distinct('name', (name) => name),
    ),
    [],
  ),
};

type Places = v.InferOutput<ReturnType<typeof placesSchema>>;
type Hosts = Places['failover'];

function placesSchema() {
  return v.object(postgresPlaceFields);
}

/** The same as the resource has it. */
export function postgresPlaces(
  places: Places,
): Pick<
  MessageInitShape<typeof PostgresBackendSchema>,
  'databases' | 'failover' | 'replicas' | 'serverNames'
> {
  return {
    databases: places.databases,
    failover: hostsOf(places.failover),
    replicas: hostsOf(places.replicas),
    // Sorted, so that another order of the same names is no change.
    serverNames: [...places.server_names].sort(),
  };
}

function hostsOf(list: Hosts) {
  return list.map(({ server_name: name = '', ...at }) => ({ ...at, serverName: name }));
}
