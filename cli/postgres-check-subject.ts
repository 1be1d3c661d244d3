/** What the checks of one database work with. */
import type pg from 'pg';
import {
  type EnforceException,
  type Layout,
  Mask,
  type PostgresBackend,
  type Resource,
} from '../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../runtime/fault.ts';
import type { BackendDatabase } from './backend-database.ts';

export interface ClassifiedColumn {
  readonly schema: string;
  readonly table: string;
  readonly column: string;
}

/** What is declared of one backend. */
export interface DeclaredBackend {
  readonly name: string;
  readonly database: string;
  /** By which clients come, in the TLS handshake. */
  readonly serverNames: readonly string[];
  readonly layout: Layout;
  /** The gateway's role in the database. */
  readonly login: string;
  /** Where the gateway alone masks, in place of the database. */
  readonly exception: EnforceException | undefined;
  /** Custom and other settings that the backend lets every session change. */
  readonly settingsAllowed: readonly string[];
  /** Without the columns whose class says that they may be seen. */
  readonly classified: readonly ClassifiedColumn[];
  readonly grants: readonly { readonly name: string; readonly groupRole: string }[];
}

export interface CheckSubject extends DeclaredBackend {
  /** An administrator's, in a transaction that only reads. */
  readonly client: pg.ClientBase;
}

/**
 * What is declared of one of a backend's databases.
 * @param choose tells which; without it the backend's own
 * @throws Fault NOT_FOUND
 */
export function declaredBackend(
  name: string,
  resources: readonly Resource[],
  choose: (backend: PostgresBackend) => BackendDatabase = (own) => ({
    database: '',
    name: own.database,
  }),
): DeclaredBackend {
  const bodies = resources.map(({ body }) => body);
  const backend = bodies.flatMap((body) =>
    body.case === 'backend' && body.value.name === name && body.value.type.case === 'postgres'
      ? [body.value.type.value]
      : [],
  )[0];
  if (backend === undefined) {
    throw new Fault('NOT_FOUND', `no PostgreSQL backend ${JSON.stringify(name)}`);
  }
  const chosen = choose(backend);
  const open = new Set(
    bodies.flatMap((body) =>
      body.case === 'columnClass' && body.value.mask === Mask.NONE ? [body.value.name] : [],
    ),
  );
  const tables = bodies.flatMap((body) =>
    body.case === 'columns' && body.value.backend === name ? body.value.tables : [],
  );
  return {
    name,
    database: chosen.name,
    serverNames: backend.serverNames,
    layout: backend.layout,
    login: backend.loginUser,
    exception: backend.exception,
    settingsAllowed: backend.settingsAllowed,
    classified: tables.flatMap(({ table, columns }) =>
      Object.entries(columns)
        .filter(([, className]) => !open.has(className))
        .map(([column]) => ({ ...splitName(table), column })),
    ),
    grants: bodies.flatMap((body) =>
      body.case === 'grant' &&
      body.value.backend === name &&
      body.value.rights.case === 'postgres' &&
      body.value.rights.value.database === chosen.database
        ? [{ name: body.value.name, groupRole: body.value.rights.value.groupRole }]
        : [],
    ),
  };
}

/** Documents name a table as `schema.table`, without quotes. */
function splitName(table: string): { schema: string; table: string } {
  const dot = table.indexOf('.');
  return { schema: table.slice(0, dot), table: table.slice(dot + 1) };
}

/**
 * `WITH RECURSIVE` terms: `family (relation, name, attribute)` has each classified column in its
 * table, in the children and partitions of that, and in its parents. Parameters 1 to 3 are those of
 * `familyParameters`. A table that moved to a closed schema is found there, our views never.
 */
export const FAMILY = `RECURSIVE classified (relation, name) AS (
  SELECT c.oid, k.name FROM unnest($1::text[], $2::text[], $3::text[]) AS k (schema, relation, name)
    JOIN pg_namespace n ON n.nspname IN (k.schema, 'writ_base_' || k.schema)
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = k.relation
  WHERE pg_get_userbyid(c.relowner) !~ '^writ_o_[0-9a-f]{16}$'
), descendants (relation, name) AS (
  SELECT relation, name FROM classified
  UNION SELECT i.inhrelid, f.name FROM descendants f JOIN pg_inherits i ON i.inhparent = f.relation
), ancestors (relation, name) AS (
  SELECT relation, name FROM classified
  UNION SELECT i.inhparent, f.name FROM ancestors f JOIN pg_inherits i ON i.inhrelid = f.relation
), family (relation, name, attribute) AS (
  SELECT f.relation, f.name, a.attnum FROM (SELECT * FROM descendants UNION SELECT * FROM ancestors) f
    JOIN pg_attribute a ON a.attrelid = f.relation AND a.attname = f.name AND NOT a.attisdropped
)`;

export function familyParameters({ classified }: DeclaredBackend): string[][] {
  return [
    classified.map(({ schema }) => schema),
    classified.map(({ table }) => table),
    classified.map(({ column }) => column),
  ];
}
