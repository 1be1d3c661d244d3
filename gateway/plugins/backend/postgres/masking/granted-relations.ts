import type { PostgresRights } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import {
  cteNames,
  type Fields,
  fieldsIf,
  fieldsOf,
  nodeOf,
  relationName,
  textOf,
  walk,
} from '../statements/statement-tree.ts';

type Rights = Pick<PostgresRights, 'select' | 'insert' | 'update' | 'delete' | 'columns'>;
type Verb = 'select' | 'insert' | 'update' | 'delete';

const SYSTEM_SCHEMAS: ReadonlySet<string> = new Set(['pg_catalog', 'information_schema']);
const WRITES: Readonly<Record<string, Verb>> = {
  InsertStmt: 'insert',
  UpdateStmt: 'update',
  DeleteStmt: 'delete',
};

/**
 * Whether the grant names every relation of the statements, where no role of the database sees to it.
 * @param named `schema.table` of all relations of a bare name
 */
export function isGranted(
  statements: readonly unknown[],
  rights: Rights,
  named: (bareName: string) => readonly string[],
): boolean {
  const ctes = cteNames(statements);
  const granted = grantedTables(rights);
  let every = true;
  const need = (verb: Verb, relation: Fields) => {
    const isCte = relation.schemaname === undefined && ctes.has(textOf(relation.relname));
    every &&= isCte || covers(relation, granted[verb], named);
  };
  const targets = new Set<unknown>();
  walk(statements, (fields) => {
    for (const [type, verb] of Object.entries(WRITES)) {
      const { relation, onConflictClause } = fieldsOf(fields[type]);
      if (relation === undefined) continue;
      targets.add(relation);
      const target = fieldsIf('RangeVar', relation) ?? fieldsOf(relation);
      need(verb, target);
      if (onConflictClause !== undefined) need('update', target);
    }
    // Each of its branches may write.
    const merged = fieldsOf(fields.MergeStmt).relation;
    if (merged === undefined) return;
    const target = fieldsIf('RangeVar', merged) ?? fieldsOf(merged);
    for (const verb of ['insert', 'update', 'delete'] as const) need(verb, target);
  });
  for (const statement of statements) {
    const [type, fields] = nodeOf(statement) ?? ['', {}];
    if (type === 'CopyStmt' && fields.is_from === true) {
      targets.add(fields.relation);
      need('insert', fieldsOf(fields.relation));
    }
  }
  walk(statements, (fields) => {
    if (typeof fields.relname === 'string' && !targets.has(fields)) need('select', fields);
  });
  return every;
}

function grantedTables(rights: Rights): Readonly<Record<Verb, ReadonlySet<string>>> {
  const { columns } = rights;
  const some = (verb: 'select' | 'insert' | 'update') =>
    columns.filter((one) => one[verb].length > 0).map(({ table }) => table);
  return {
    select: new Set([...rights.select, ...some('select')]),
    insert: new Set([...rights.insert, ...some('insert')]),
    update: new Set([...rights.update, ...some('update')]),
    delete: new Set(rights.delete),
  };
}

/** A bare name must mean a granted table in whatever schema it is found. */
function covers(
  relation: Fields,
  granted: ReadonlySet<string>,
  named: (bareName: string) => readonly string[],
): boolean {
  const schema = textOf(relation.schemaname);
  if (SYSTEM_SCHEMAS.has(schema)) return true;
  if (schema !== '') return granted.has(relationName(relation));
  const all = named(textOf(relation.relname));
  return (
    all.length > 0 &&
    all.every((name) => granted.has(name) || SYSTEM_SCHEMAS.has(name.split('.')[0] ?? ''))
  );
}
