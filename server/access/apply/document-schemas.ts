/** The shape of what `writ apply` takes: one schema a kind; what is not named here is refused. */
import * as v from 'valibot';
import { durationSeconds } from '../../../runtime/config.ts';
import {
  backendFields,
  grantFields,
  HIDDEN_KEYS,
  keysBy,
  resourceName,
  sessionFields,
} from './document-fields.ts';
import {
  EXCEPTION_MESSAGE,
  hasItsException,
  postgresGuardFields,
} from './postgres-guard-schema.ts';
import {
  hasOneLogin,
  keepsSharedLogin,
  ONE_LOGIN_MESSAGE,
  postgresLoginFields,
  SHARED_LOGIN_MESSAGE,
} from './postgres-login-schema.ts';
import { isNamePart, sqlName, tableProblem } from './postgres-names.ts';
import { hostName, port, postgresPlaceFields } from './postgres-places-schema.ts';
import { postgresRightsFields, statementClasses } from './postgres-rights-schema.ts';
import { postgresSettingsFields } from './postgres-settings-schema.ts';

const MOST_ERRORS = 1_000_000;
const A_DAY_SECONDS = 24 * 3600;
const MAXIMUM_LIST = 1000;
const MAXIMUM_RANGE = 1_000_000_000_000;

/** `null` in YAML is no text; here it names a mask all the same. */
const mask = v.pipe(
  v.nullable(v.string()),
  v.transform((text) => text ?? 'null'),
  v.picklist(
    ['full', 'last4', 'email', 'null', 'year', 'hash', 'range', 'none'],
    'full, last4, email, null, year, hash, range or none',
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
  postgres: v.pipe(
    v.strictObject({
      host: hostName,
      port,
      database: sqlName,
      ...postgresPlaceFields,
      layout: v.optional(v.picklist(['front', 'in-place'], 'front or in-place'), 'front'),
      ...postgresLoginFields,
      ...postgresGuardFields,
      ...postgresSettingsFields,
    }),
    v.forward(
      v.check((postgres) => hasOneLogin(postgres), ONE_LOGIN_MESSAGE),
      ['login'],
    ),
    v.forward(
      v.check((postgres) => keepsSharedLogin(postgres), SHARED_LOGIN_MESSAGE),
      ['login', 'vault_database'],
    ),
    v.forward(
      v.check((postgres) => hasItsException(postgres), EXCEPTION_MESSAGE),
      ['exception'],
    ),
  ),
});

/** How the columns of a class are shown. */
export const columnClassSchema = v.pipe(
  v.strictObject({
    kind: v.literal('ColumnClass'),
    name: resourceName,
    mask,
    range_size: v.optional(
      v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(MAXIMUM_RANGE)),
    ),
  }),
  v.forward(
    v.check(
      (document) => (document.mask === 'range') === (document.range_size !== undefined),
      'a range_size where the mask is range, and there alone',
    ),
    ['range_size'],
  ),
);

/** Which columns of a backend belong to which class. */
export const columnsSchema = v.strictObject({
  kind: v.literal('Columns'),
  name: resourceName,
  backend: resourceName,
  tables: classifiedTables,
});

function count(most: number) {
  return v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(most));
}

/** 0 is no limit. */
const budgetFields = {
  rows: v.optional(count(Number.MAX_SAFE_INTEGER), 0),
  bytes: v.optional(count(Number.MAX_SAFE_INTEGER), 0),
  statements: v.optional(count(Number.MAX_SAFE_INTEGER), 0),
};

/** A grant on a backend of type postgres. */
export const postgresGrantSchema = v.strictObject({
  ...grantFields,
  session: v.strictObject({
    ...sessionFields,
    ...budgetFields,
    errors: v.optional(count(MOST_ERRORS), 0),
    idle_in_transaction: v.optional(durationSeconds(A_DAY_SECONDS)),
    per_day: v.optional(
      v.strictObject({ ...budgetFields, duration: v.optional(durationSeconds(A_DAY_SECONDS)) }),
    ),
  }),
  postgres: v.strictObject({
    ...postgresRightsFields,
    statements: statementClasses,
  }),
});
