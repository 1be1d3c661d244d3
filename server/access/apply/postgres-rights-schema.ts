/** The shape of a grant's rights in a PostgreSQL database. */
import * as v from 'valibot';
import { CUSTOM_SETTING } from '../../../runtime/postgres-settings.ts';
import { HIDDEN_KEYS, keysBy, resourceName } from './document-fields.ts';
import {
  functionProblem,
  isNamePart,
  named,
  ownerName,
  schemaName,
  tableColumnProblem,
  tableProblem,
} from './postgres-names.ts';

const MAXIMUM_LIST = 1000;

function list<T extends v.GenericSchema<string>>(item: T, what: string) {
  return v.optional(
    v.pipe(
      v.array(item),
      v.maxLength(MAXIMUM_LIST, `at most ${MAXIMUM_LIST} ${what}s`),
      v.check((names) => new Set(names).size === names.length, `each ${what} once`),
    ),
    [],
  );
}

const table = named(tableProblem);
/** `schema.name`, or `name` in whatever schema. */
const relation = named((text) =>
  isNamePart(text) || tableProblem(text) === undefined ? undefined : 'a name or schema.name',
);
const column = named((text) => (isNamePart(text) ? undefined : 'the name of a column'));

function mapOf<T extends v.GenericSchema>(
  problem: (key: string) => string | undefined,
  value: T,
  what: string,
) {
  return v.optional(
    v.pipe(
      v.unknown(),
      keysBy(problem),
      v.record(v.string(), value),
      v.check((all) => Object.keys(all).length <= MAXIMUM_LIST, `at most ${MAXIMUM_LIST} ${what}`),
    ),
    {},
  );
}

const columnRights = v.strictObject({
  select: list(column, 'column'),
  insert: list(column, 'column'),
  update: list(column, 'column'),
});

function settingProblem(text: string): string | undefined {
  if (HIDDEN_KEYS.includes(text)) return `no setting named ${HIDDEN_KEYS.join(', ')}`;
  return CUSTOM_SETTING.test(text) ? undefined : 'a custom setting as `prefix.name`, in lower case';
}

const settingValue = v.pipe(
  v.string(),
  v.regex(/^[^\p{Cc}\p{Zl}\p{Zp}]{0,200}$/u, 'one line of at most 200 characters'),
);

const STATEMENT_CLASSES = [
  'read',
  'write',
  'unbounded',
  'ddl',
  'grant',
  'do',
  'call',
  'lock',
  'maintenance',
  'listen',
  'any',
] as const;
const STATEMENT_CLASS_LIST = `${STATEMENT_CLASSES.slice(0, -1).join(', ')} or any`;

/** Statement classes of a grant. */
export const statementClasses = v.optional(
  v.pipe(
    v.array(v.picklist(STATEMENT_CLASSES, STATEMENT_CLASS_LIST)),
    v.minLength(1, STATEMENT_CLASS_LIST),
    v.check((classes) => new Set(classes).size === classes.length, 'each class once'),
  ),
  ['read'],
);

/** All but `statements`. */
export const postgresRightsFields = {
  database: v.optional(resourceName),
  replica: v.optional(v.boolean(), false),
  select: list(table, 'table'),
  insert: list(table, 'table'),
  update: list(table, 'table'),
  delete: list(table, 'table'),
  columns: mapOf(tableProblem, columnRights, 'tables'),
  write: list(named(tableColumnProblem), 'column'),
  execute: list(named(functionProblem), 'function'),
  sequences: list(table, 'sequence'),
  ddl: v.optional(
    v.strictObject({
      owner: ownerName,
      schemas: v.pipe(v.array(schemaName), v.minLength(1, 'a schema'), v.maxLength(MAXIMUM_LIST)),
    }),
  ),
  settings: mapOf(settingProblem, settingValue, 'settings'),
  rules: v.optional(
    v.strictObject({
      tables: list(relation, 'table'),
      functions: list(relation, 'function'),
      copy: v.optional(v.boolean(), true),
    }),
  ),
  recording: v.optional(v.strictObject({ rows: v.optional(v.boolean(), false) })),
};
