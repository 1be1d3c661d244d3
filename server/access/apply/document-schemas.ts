/** The shape of what `writ apply` takes: one schema a kind; what is not named here is refused. */
import { isIP } from 'node:net';
import * as v from 'valibot';
import { SpiffeId } from '../../../identity/spiffe-id.ts';
import { absolutePath, durationSeconds } from '../../../runtime/config.ts';

const A_YEAR_SECONDS = 365 * 24 * 3600;
const MAXIMUM_ROWS = Number.MAX_SAFE_INTEGER;
const MAXIMUM_LIST = 1000;

const name = v.pipe(
  v.string(),
  v.regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'a name: 1 to 63 of a-z 0-9 -, not beginning with -'),
);

const sentence = v.pipe(
  v.string(),
  // Shown on terminals and kept in records: one line.
  v.regex(/^[^\p{Cc}\p{Zl}\p{Zp}]{1,200}$/u, 'one line of 1 to 200 characters'),
);

const HOST_NAME = /^(?!.*[.]{2})[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?$/;

const hostName = v.pipe(
  v.string(),
  v.check((text) => isIP(text) !== 0 || HOST_NAME.test(text), 'a host name or IP address'),
);

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

const RFC_3339 = /^(\d{4})-(\d{2})-(\d{2})T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})$/;

/** Date.parse takes the 30th of February for the 2nd of March. */
function isInstant(text: string): boolean {
  const [, year, month, day] = (RFC_3339.exec(text) ?? []).map(Number);
  if (year === undefined || month === undefined || day === undefined) return false;
  const lastDay = new Date(Date.UTC(year, month, 0)).getUTCDate();
  return day <= lastDay && !Number.isNaN(Date.parse(text));
}

const instant = v.pipe(
  v.string(),
  v.check(isInstant, 'a time with its zone, e.g. 2027-03-31T00:00:00Z'),
  v.transform((text) => new Date(text)),
);

const spiffeId = v.pipe(
  v.string(),
  v.rawTransform(({ dataset, addIssue, NEVER }) => {
    try {
      return SpiffeId.parse(dataset.value);
    } catch {
      addIssue({ message: 'a SPIFFE ID, e.g. spiffe://example.org/reporting' });
      return NEVER;
    }
  }),
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

/** Keys that a record schema drops without a word: a column that is dropped would go unmasked. */
const HIDDEN_KEYS = ['__proto__', 'prototype', 'constructor'];

function columnProblem(text: string): string | undefined {
  if (HIDDEN_KEYS.includes(text)) return `no column named ${HIDDEN_KEYS.join(', ')}`;
  return isNamePart(text) ? undefined : 'the name of a column';
}

/** Checks the keys of a map before its values, each under its own path. */
function keysBy(problem: (key: string) => string | undefined) {
  return v.rawCheck<unknown>(({ dataset, addIssue }) => {
    const input = dataset.value;
    if (typeof input !== 'object' || input === null) return;
    for (const [key, value] of Object.entries(input)) {
      const message = problem(key);
      if (message === undefined) continue;
      addIssue({
        message,
        input: key,
        path: [{ type: 'unknown', origin: 'value', input, key, value }],
      });
    }
  });
}

const classifiedColumns = v.pipe(v.unknown(), keysBy(columnProblem), v.record(v.string(), name));

const classifiedTables = v.pipe(
  v.unknown(),
  keysBy(tableProblem),
  v.record(v.string(), classifiedColumns),
  v.check((all) => Object.keys(all).length <= MAXIMUM_LIST, `at most ${MAXIMUM_LIST} tables`),
);

/** A backend of type postgres. */
export const postgresBackendSchema = v.strictObject({
  kind: v.literal('Backend'),
  name,
  type: v.literal('postgres'),
  environment: sentence,
  on_stale: v.optional(v.picklist(['strict', 'standard'], 'strict or standard'), 'standard'),
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
export const columnClassSchema = v.strictObject({ kind: v.literal('ColumnClass'), name, mask });

/** Which columns of a backend belong to which class. */
export const columnsSchema = v.strictObject({
  kind: v.literal('Columns'),
  name,
  backend: name,
  tables: classifiedTables,
});

/** A grant on a backend of type postgres. */
export const postgresGrantSchema = v.strictObject({
  kind: v.literal('Grant'),
  name,
  identity: spiffeId,
  backend: name,
  owner: sentence,
  purpose: sentence,
  expires_at: instant,
  session: v.strictObject({
    maximum: durationSeconds(A_YEAR_SECONDS),
    renewable: v.optional(v.boolean(), false),
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
