/** Ways to read a classified column around its mask, for any table: `writ backend prove` tries each. */
import pg from 'pg';

export interface AttemptTarget {
  /** As grants name it. */
  readonly schema: string;
  readonly table: string;
  readonly column: string;
  /** Where the unmasked rows are, quoted and qualified. */
  readonly base: string;
}

export interface Attempt {
  readonly name: string;
  readonly sql: string;
  /** Its result is asked for in binary. */
  readonly binary: boolean;
  /** It reads the rows themselves: that it is refused is what is wanted, whatever it returns. */
  readonly mustFail: boolean;
}

type Template = readonly [name: string, sql: string, how?: 'must fail' | 'binary'];

/** `T` is the table as a session writes it, `Q` with its schema, `B` the base table, `C` the column. */
const TEMPLATES: readonly Template[] = [
  ['plain', 'select C from T limit 50'],
  ['qualified', 'select C from Q limit 50'],
  ['base table', 'select C from B limit 50', 'must fail'],
  ['base table, only', 'select C from only B limit 50', 'must fail'],
  ['whole row', 'select t::text from T t limit 50'],
  ['whole row of the base table', 'select t::text from B t limit 50', 'must fail'],
  ['row as JSON', 'select to_jsonb(t) from T t limit 50'],
  ['row as XML', "select query_to_xml('select C from T limit 50', true, true, '')"],
  ['table as XML', "select query_to_xml('select C from B limit 50', true, true, '')", 'must fail'],
  ['aggregate', "select string_agg(C::text, ',') from (select C from T limit 50) t"],
  ['array', 'select array_agg(C) from (select C from T limit 50) t'],
  ['extremes', 'select min(C::text), max(C::text) from T'],
  ['cast to bytes', "select encode(convert_to(C::text, 'UTF8'), 'hex') from T limit 50"],
  ['base64', "select encode(convert_to(C::text, 'UTF8'), 'base64') from T limit 50"],
  ['reversed', 'select reverse(C::text) from T limit 50'],
  ['pieces', 'select left(C::text, 200) || right(C::text, 0) from T limit 50'],
  ['concatenated', "select '<' || C::text || '>' from T limit 50"],
  ['common table', 'with m as materialized (select C from T limit 50) select * from m'],
  ['union', 'select C::text from T union all select null limit 50'],
  ['window', 'select lag(C) over () from T limit 50'],
  ['lateral', 'select x.* from T t, lateral (select t.C) x limit 50'],
  ['error of a cast', 'select C::text::int4range from T limit 50'],
  ['error of a JSON parser', "select ('{' || C::text)::json from T limit 50"],
  [
    'notice',
    "do $x$ begin raise notice '%', (select string_agg(C::text, ',') from (select C from T limit 50) t); end $x$",
  ],
  [
    'notice of the base table',
    "do $x$ begin raise notice '%', (select C from B limit 1); end $x$",
    'must fail',
  ],
  ['cursor', 'declare leak cursor for select C from T; fetch 50 from leak'],
  [
    'cursor on the base table',
    'declare leak cursor for select C from B; fetch 50 from leak',
    'must fail',
  ],
  ['prepared', 'prepare leak as select C from B limit 50; execute leak', 'must fail'],
  ['plain, in binary', 'select C from T limit 50', 'binary'],
  ['whole row, in binary', 'select t from T t limit 50', 'binary'],
  ['array, in binary', 'select array_agg(C) from (select C from T limit 50) t', 'binary'],
  ['bytes, in binary', "select convert_to(C::text, 'UTF8') from T limit 50", 'binary'],
  ['COPY', 'copy (select C from T limit 50) to stdout'],
  ['COPY of whole rows as CSV', 'copy (select * from T limit 50) to stdout (format csv)'],
  ['COPY in binary', 'copy (select C from T limit 50) to stdout (format binary)'],
  ['COPY of the base table', 'copy B to stdout', 'must fail'],
  ['COPY of a query', 'copy (select C from B) to stdout', 'must fail'],
  [
    'function of its own',
    "create function pg_temp.leak() returns setof text language sql as 'select C::text from B'; select pg_temp.leak()",
    'must fail',
  ],
  ['temporary copy', 'create temporary table leak as select C from B', 'must fail'],
  [
    'statistics',
    "select most_common_vals::text, histogram_bounds::text from pg_stats where attname = 'N'",
  ],
  ['raw statistics', 'select stavalues1::text from pg_statistic limit 50', 'must fail'],
  ['extended statistics', 'select most_common_vals::text from pg_stats_ext'],
  ['view of its own', 'create view leak as select C from B; select * from leak', 'must fail'],
  ['another role', 'set role postgres', 'must fail'],
  [
    'role of the view',
    "do $x$ begin execute format('set role %I', (select viewowner from pg_views where viewname = 'R' and viewowner ~ '^writ_' limit 1)); end $x$",
    'must fail',
  ],
  ['password hashes', 'select rolpassword from pg_authid', 'must fail'],
  ['file of the server', "select pg_read_file('postgresql.conf')", 'must fail'],
  ['program of the server', "copy (select 1) to program 'true'", 'must fail'],
];

/** All attempts on one column. They only read, or are rolled back. */
export function attemptsOn({ schema, table, column, base }: AttemptTarget): readonly Attempt[] {
  const words: Readonly<Record<string, string>> = {
    T: pg.escapeIdentifier(table),
    Q: `${pg.escapeIdentifier(schema)}.${pg.escapeIdentifier(table)}`,
    B: base,
    C: pg.escapeIdentifier(column),
    N: column.replaceAll("'", "''"),
    R: table.replaceAll("'", "''"),
  };
  // A name that holds a quote cannot stand inside the quoted texts of some templates.
  const isPlain = /^[\w.]+$/.test(`${schema}.${table}.${column}`);
  return TEMPLATES.filter(([, sql]) => isPlain || !sql.includes("'")).map(([name, sql, how]) => ({
    name,
    sql: sql.replaceAll(/\b[TQBCNR]\b/g, (word) => words[word] ?? word),
    binary: how === 'binary',
    mustFail: how === 'must fail',
  }));
}
