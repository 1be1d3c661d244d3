/** The shape of what `writ apply` takes: one schema a kind; what is not named here is refused. */
import * as v from 'valibot';
import { absolutePath } from '../../../runtime/config.ts';
import {
  backendFields,
  grantFields,
  HIDDEN_KEYS,
  isHost,
  keysBy,
  resourceName,
  sessionFields,
} from './document-fields.ts';

const MAXIMUM_ROWS = Number.MAX_SAFE_INTEGER;
const MAXIMUM_LIST = 1000;

const hostName = v.pipe(v.string(), v.check(isHost, 'a host name or IP address'));

/** PostgreSQL cuts longer names, and a name that was cut is another one. */
const MAXIMUM_NAME_BYTES = 63;
/** A part of a name with dots; whoever writes SQL quotes it. */
const NAME_PART = /^[^\p{Cc}."]+$/u;

function isNamePart(text: string): boolean {
  return NAME_PART.test(text) && Buffer.byteLength(text) <= MAXIMUM_NAME_BYTES;
}

/** Of a database or role. */
const sqlName = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z0-9_][A-Za-z0-9_$.-]{0,62}$/, '1 to 63 of A-Z a-z 0-9 _ $ . -'),
);

/** What is the database's own or Writ's is nobody's to grant. */
const RESERVED_SCHEMA = /^(pg_.*|information_schema|writ|writ_.*)$/;

/** What is wrong with the name of a table, as what is expected in its place. */
function tableProblem(text: string): string | undefined {
  const [schema = '', ...rest] = text.split('.');
  if (rest.length !== 1 || ![schema, ...rest].every(isNamePart)) return 'a table as `schema.table`';
  return RESERVED_SCHEMA.test(schema)
    ? "a table of the application's, not of the database or of Writ"
    : undefined;
}

const table = v.pipe(
  v.string(),
  v.rawCheck(({ dataset, addIssue }) => {
    const message = dataset.typed ? tableProblem(dataset.value) : undefined;
    if (message !== undefined) addIssue({ message });
  }),
);

const tables = v.optional(
  v.pipe(
    v.array(table),
    v.maxLength(MAXIMUM_LIST, `at most ${MAXIMUM_LIST} tables`),
    v.check((list) => new Set(list).size === list.length, 'each table once'),
  ),
  [],
);

/** `null` in YAML is no text; here it names a mask all the same. */
const mask = v.pipe(
  v.nullable(v.string()),
  v.transform((text) => text ?? 'null'),
  v.picklist(
    ['full', 'last4', 'email', 'null', 'year'],
    'full, last4, email, null or year (others are not supported by this version)',
  ),
);

function columnProblem(text: string): string | undefined {
  if (HIDDEN_KEYS.includes(text)) return `no column named ${HIDDEN_KEYS.join(', ')}`;
  return isNamePart(text) ? undefined : 'the name of a column';
}

const classifiedColumns = v.pipe(
  v.unknown(),
  keysBy(columnProblem),
  v.record(v.string(), resourceName),
);

const classifiedTables = v.pipe(
  v.unknown(),
  keysBy(tableProblem),
  v.record(v.string(), classifiedColumns),
  v.check((all) => Object.keys(all).length <= MAXIMUM_LIST, `at most ${MAXIMUM_LIST} tables`),
);

/** A backend of type postgres. */
export const postgresBackendSchema = v.strictObject({
  ...backendFields,
  type: v.literal('postgres'),
  postgres: v.strictObject({
    host: hostName,
    port: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65_535)), 5432),
    database: sqlName,
    layout: v.optional(
      v.picklist(['front'], 'front (in-place is not supported by this version)'),
      'front',
    ),
    login: v.strictObject({ user: sqlName, password_file: absolutePath }),
    tls: v.optional(v.strictObject({ ca_file: absolutePath, server_name: hostName })),
  }),
});

/** How the columns of a class are shown. */
export const columnClassSchema = v.strictObject({
  kind: v.literal('ColumnClass'),
  name: resourceName,
  mask,
});

/** Which columns of a backend belong to which class. */
export const columnsSchema = v.strictObject({
  kind: v.literal('Columns'),
  name: resourceName,
  backend: resourceName,
  tables: classifiedTables,
});

/** A grant on a backend of type postgres. */
export const postgresGrantSchema = v.strictObject({
  ...grantFields,
  session: v.strictObject({
    ...sessionFields,
    rows: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(MAXIMUM_ROWS)), 0),
  }),
  postgres: v.strictObject({
    select: tables,
    insert: tables,
    update: tables,
    delete: tables,
    statements: v.optional(
      v.pipe(
        v.array(v.picklist(['read', 'write'], 'read or write')),
        v.minLength(1, 'read, write or both'),
        v.check((list) => new Set(list).size === list.length, 'each class once'),
      ),
      ['read'],
    ),
  }),
});
