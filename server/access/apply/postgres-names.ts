/** Names of a PostgreSQL database, as documents write them. */
import * as v from 'valibot';

/** PostgreSQL cuts longer names, and a name that was cut is another one. */
const MAXIMUM_NAME_BYTES = 63;
/** A part of a name with dots; whoever writes SQL quotes it. */
const NAME_PART = /^[^\p{Cc}."]+$/u;
/** What is the database's own or Writ's is nobody's to grant. */
const RESERVED_SCHEMA = /^(pg_.*|information_schema|writ|writ_.*)$/;

export function isNamePart(text: string): boolean {
  return NAME_PART.test(text) && Buffer.byteLength(text) <= MAXIMUM_NAME_BYTES;
}

/** Of a database or role. */
export const sqlName = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z0-9_][A-Za-z0-9_$.-]{0,62}$/, '1 to 63 of A-Z a-z 0-9 _ $ . -'),
);

/** A schema of the application's. */
export const schemaName = v.pipe(
  v.string(),
  v.check(isNamePart, 'the name of a schema'),
  v.check((text) => !RESERVED_SCHEMA.test(text), "a schema of the application's"),
);

/** A role that Writ may make: neither the server's nor one of Writ's own. */
export const ownerName = v.pipe(
  sqlName,
  v.check(
    (text) => !/^(pg_|writ_)/.test(text),
    'a role whose name begins with neither pg_ nor writ_',
  ),
);

/**
 * What is wrong with the name of something in a schema, as what is expected in its place.
 * @param what e.g. `a table as schema.table`
 */
function qualifiedProblem(text: string, what: string): string | undefined {
  const [schema = '', ...rest] = text.split('.');
  if (rest.length !== 1 || ![schema, ...rest].every(isNamePart)) return what;
  return RESERVED_SCHEMA.test(schema)
    ? "a table of the application's, not of the database or of Writ"
    : undefined;
}

/** What is wrong with the name of a table, as what is expected in its place. */
export function tableProblem(text: string): string | undefined {
  return qualifiedProblem(text, 'a table as `schema.table`');
}

/** The same for a column of a table. */
export function tableColumnProblem(text: string): string | undefined {
  const what = 'a column as `schema.table.column`';
  const dot = text.lastIndexOf('.');
  if (dot < 0 || !isNamePart(text.slice(dot + 1))) return what;
  return qualifiedProblem(text.slice(0, dot), what);
}

const FUNCTION = /^([^()]+)\(([A-Za-z0-9_ ,.[\]]{0,500})\)$/;

/** The same for a function with the types of its arguments. */
export function functionProblem(text: string): string | undefined {
  const what = 'a function as `schema.name(type, ...)`';
  const name = FUNCTION.exec(text)?.[1];
  return name === undefined ? what : qualifiedProblem(name, what);
}

/** Text that `problem` finds nothing wrong with. */
export function named(problem: (text: string) => string | undefined) {
  return v.pipe(
    v.string(),
    v.rawCheck(({ dataset, addIssue }) => {
      const message = dataset.typed ? problem(dataset.value) : undefined;
      if (message !== undefined) addIssue({ message });
    }),
  );
}
