/** What is wrong with a grant's rights in a PostgreSQL database, seen beside its backend's classes. */

import type { Grant } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Mask, type PostgresRights } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { FutureState, Placed } from './future-state.ts';

const WRITES = ['insert', 'update', 'delete'] as const;
const COLUMN_WRITES = ['insert', 'update'] as const;

type At = Placed<Grant>['at'];

/** Also of stored grants: classes may change under them. */
export function checkPostgresRights(grant: Placed<Grant>, state: FutureState): string[] {
  const { value, at } = grant;
  if (value.rights.case !== 'postgres') return [];
  const rights = value.rights.value;
  const masks = masksOf(value.backend, state);
  return [
    ...(givesNothing(rights)
      ? [`${at(['postgres'])}: expected a right, e.g. a table in select`]
      : []),
    ...checkStatements(rights, at),
    ...checkColumns(rights, masks, at),
    ...checkWriteMasked(rights, masks, at),
    ...checkDdl(grant, rights, state),
    ...checkSettings(grant, rights, state),
  ];
}

function givesNothing(rights: PostgresRights): boolean {
  const lists = [rights.select, ...WRITES.map((verb) => rights[verb]), rights.execute];
  return (
    [...lists, rights.sequences, rights.columns].every(({ length }) => length === 0) &&
    rights.ddlOwner === undefined
  );
}

function checkStatements(rights: PostgresRights, at: At): string[] {
  const has = (name: string) => rights.statements.includes(name);
  const path = at(['postgres', 'statements']);
  if (has('any') && rights.statements.length > 1) return [`${path}: any stands alone`];
  if (has('unbounded') && !has('write')) return [`${path}: expected write beside unbounded`];
  // Code that the client writes could set them (threats P8).
  if ((has('do') || has('any')) && Object.keys(rights.settings).length > 0) {
    return [`${at(['postgres', 'settings'])}: a grant with do or any cannot keep settings`];
  }
  if (has('write') || has('any')) return [];
  const writes = [...WRITES, 'sequences' as const].filter((verb) => rights[verb].length > 0);
  const columns = rights.columns.flatMap(({ table, ...lists }) =>
    COLUMN_WRITES.filter((verb) => lists[verb].length > 0).map((verb) => [table, verb]),
  );
  return [...writes.map((verb) => [verb]), ...columns.map((path) => ['columns', ...path])].map(
    (path) => `${at(['postgres', ...path])}: expected write among statements`,
  );
}

function checkColumns(rights: PostgresRights, masks: Masks, at: At): string[] {
  const written = new Set(rights.writeMasked);
  return rights.columns.flatMap(({ table, ...lists }) =>
    COLUMN_WRITES.flatMap((verb) =>
      lists[verb].flatMap((column, index) => {
        const name = `${table}.${column}`;
        if (!masks.has(name) || written.has(name)) return [];
        const path = at(['postgres', 'columns', table, verb, index]);
        return [`${path}: ${name} is classified: name it under write too`];
      }),
    ),
  );
}

function checkWriteMasked(rights: PostgresRights, masks: Masks, at: At): string[] {
  const tables = new Set([
    ...rights.insert,
    ...rights.update,
    ...rights.columns.flatMap(({ table, insert, update }) =>
      insert.length + update.length > 0 ? [table] : [],
    ),
  ]);
  return rights.writeMasked.flatMap((name, index) => {
    const path = at(['postgres', 'write', index]);
    const mask = masks.get(name);
    const table = name.slice(0, name.lastIndexOf('.'));
    if (mask === undefined) return [`${path}: ${name} is not classified`];
    // Whoever can write values and see their hashes finds every value by trying (threats P4).
    if (mask === Mask.HASH) return [`${path}: ${name} is shown as a hash: it cannot be written`];
    return tables.has(table) ? [] : [`${path}: expected ${table} in insert, update or columns`];
  });
}

function checkDdl(
  { value, at }: Placed<Grant>,
  rights: PostgresRights,
  state: FutureState,
): string[] {
  const owner = rights.ddlOwner?.role;
  const hasClass = rights.statements.some((name) => name === 'ddl' || name === 'any');
  if (owner === undefined) {
    return rights.statements.includes('ddl')
      ? [`${at(['postgres', 'statements'])}: expected ddl: an owner and schemas`]
      : [];
  }
  const problems: string[] = [];
  const path = at(['postgres', 'ddl']);
  if (!hasClass) problems.push(`${path}: expected ddl among statements`);
  // A function of the session's own could set them.
  if (Object.keys(rights.settings).length > 0) {
    problems.push(`${at(['postgres', 'settings'])}: a grant with ddl cannot keep settings`);
  }
  for (const { value: other } of state.grants.values()) {
    if (other.name === value.name || other.backend !== value.backend) continue;
    if (other.rights.case === 'postgres' && other.rights.value.ddlOwner?.role === owner) {
      problems.push(`${path}: ${owner} is the owner of grant ${other.name}: each has its own`);
    }
  }
  return problems;
}

/** Row policies read them: a client that could change one would choose its rows (threats P8). */
function checkSettings(
  { value, at }: Placed<Grant>,
  rights: PostgresRights,
  { backends }: FutureState,
): string[] {
  const type = backends.get(value.backend)?.value.type;
  const allowed = type?.case === 'postgres' ? type.value.settingsAllowed : [];
  return Object.keys(rights.settings).flatMap((name) =>
    allowed.includes(name)
      ? [
          `${at(['postgres', 'settings', name])}: sessions may change ${name} by settings_allowed of backend ${value.backend}`,
        ]
      : [],
  );
}

type Masks = ReadonlyMap<string, Mask>;

/** Masks of the classified columns of a backend by `schema.table.column`. */
function masksOf(backend: string, state: FutureState): Masks {
  const masks = new Map<string, Mask>();
  for (const { value } of state.columns.values()) {
    if (value.backend !== backend) continue;
    for (const { table, columns } of value.tables) {
      for (const [column, name] of Object.entries(columns)) {
        const mask = state.columnClasses.get(name)?.value.mask ?? Mask.UNSPECIFIED;
        if (mask !== Mask.NONE) masks.set(`${table}.${column}`, mask);
      }
    }
  }
  return masks;
}
