/** Proposes classes for the columns of a database, from their names, comments and a sample of values. */
import pg from 'pg';
import { inReadOnly } from './postgres-check.ts';
import { type DataKind, kindOfName, kindOfValue, shapeOf } from './postgres-detectors.ts';

export type MaskName = 'full' | 'last4' | 'email' | 'null' | 'year';

export interface ScannedColumn {
  /** `schema.table`. */
  readonly table: string;
  readonly column: string;
  readonly type: string;
  readonly className: string;
  /** What to declare the class with, if it is not there. */
  readonly mask: MaskName;
  /** Why: a comment's marker, the name, values, or name and values. */
  readonly by: string;
  /** Of one value that was recognised, its shape; no value itself. */
  readonly example?: string;
}

export interface Scan {
  /** Every table and view that a grant could name. */
  readonly tables: readonly string[];
  readonly columns: readonly ScannedColumn[];
  /** Columns with a class already, which are not proposed. */
  readonly known: number;
  /** Sentences about what could not be looked at. */
  readonly warnings: readonly string[];
}

const SAMPLE_ROWS = 200;
const LARGE_TABLE_PAGES = 500;

const COLUMNS = `
select n.nspname::text as schema, c.relname::text as table, a.attname::text as column, c.relkind::text as kind,
  c.relpages as pages, format_type(a.atttypid, a.atttypmod) as type, t.typcategory::text as category,
  substring(col_description(c.oid, a.attnum) from 'writ:class=([a-z0-9][a-z0-9-]{0,62})') as marker
from pg_class c join pg_namespace n on n.oid = c.relnamespace
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  join pg_type t on t.oid = a.atttypid
where c.relkind in ('r', 'p', 'm', 'f', 'v') and not c.relispartition
  and n.nspname !~ '^(pg_|information_schema$|writ$|writ_v_)'
  and pg_get_userbyid(c.relowner) !~ '^writ_o_[0-9a-f]{16}$'
order by 1, 2, a.attnum`;

interface ColumnRow {
  readonly schema: string;
  readonly table: string;
  readonly column: string;
  readonly kind: string;
  readonly pages: number;
  readonly type: string;
  /** Of pg_type: S text, N number, D date and time, U others. */
  readonly category: string;
  readonly marker: string | null;
}

/**
 * @param client an administrator's connection
 * @param declared `schema.table.column` of the columns that have a class
 */
export async function scanPostgres(
  client: pg.ClientBase,
  declared: ReadonlySet<string>,
): Promise<Scan> {
  return inReadOnly(client, async () => {
    const { rows } = await client.query<ColumnRow>(COLUMNS);
    const names = [...new Set(rows.map(tableOf))];
    const byTable = new Map(
      names.map((name) => [name, rows.filter((row) => tableOf(row) === name)]),
    );
    const warnings: string[] = [];
    const columns: ScannedColumn[] = [];
    let known = 0;
    for (const [table, all] of byTable) {
      const open = all.filter(({ column }) => !declared.has(`${table}.${column}`));
      known += all.length - open.length;
      const values = await sample(client, table, open, warnings);
      columns.push(...open.flatMap((row) => propose(table, row, values.get(row.column) ?? [])));
    }
    return { tables: [...byTable.keys()], columns, known, warnings };
  });
}

/** In the closed schema of the layout in-place, a table is still known by its first name. */
function tableOf({ schema, table }: ColumnRow): string {
  return `${schema.replace(/^writ_base_/, '')}.${table}`;
}

/** Values of a bounded number of rows, as text, cut to a bounded length. */
async function sample(
  client: pg.ClientBase,
  table: string,
  columns: readonly ColumnRow[],
  warnings: string[],
): Promise<ReadonlyMap<string, readonly string[]>> {
  const [first] = columns;
  const wanted = columns.filter(({ category }) => /[SNUAVC]/.test(category));
  if (first === undefined || wanted.length === 0 || /[vf]/.test(first.kind)) return new Map();
  const list = wanted.map(({ column }) => `left(${pg.escapeIdentifier(column)}::text, 4096)`);
  const from = `${pg.escapeIdentifier(first.schema)}.${pg.escapeIdentifier(first.table)}`;
  const part =
    first.pages > LARGE_TABLE_PAGES ? ` tablesample system (${percent(first.pages)})` : '';
  await client.query("savepoint sample; set local statement_timeout = '5s'");
  try {
    const { rows } = await client.query<(string | null)[]>({
      text: `select ${list.join(', ')} from ${from}${part} limit ${SAMPLE_ROWS}`,
      rowMode: 'array',
    });
    const present = (at: number) => rows.flatMap((row) => row[at] ?? []);
    return new Map(wanted.map(({ column }, at) => [column, present(at)]));
  } catch (error) {
    await client.query('rollback to savepoint sample');
    const code = error instanceof pg.DatabaseError ? error.code : 'connection';
    if (code === 'connection') throw error;
    warnings.push(`${table}: no values were looked at (${code})`);
    return new Map();
  }
}

function percent(pages: number): string {
  return Math.min(100, Math.max(0.001, (100 * 50) / pages)).toFixed(3);
}

function propose(table: string, row: ColumnRow, values: readonly string[]): ScannedColumn[] {
  const { column, type, category, marker } = row;
  const place = { table, column, type };
  const isText = category === 'S';
  if (marker !== null) {
    return [{ ...place, className: marker, mask: isText ? 'full' : 'null', by: 'comment' }];
  }
  const named = fits(kindOfName(column), row) ? kindOfName(column) : undefined;
  const found = kindOfValues(values);
  const kind = found?.kind ?? named;
  if (kind === undefined) return [];
  const by = [...(named === kind ? ['name'] : []), ...(found?.kind === kind ? ['values'] : [])];
  return [
    {
      ...place,
      ...classOf(kind, row),
      by: by.join(' and '),
      ...(found === undefined ? {} : { example: shapeOf(found.value) }),
    },
  ];
}

/** A flag or a count about an email is no email. */
function fits(kind: DataKind | undefined, { category, type }: ColumnRow): boolean {
  if (kind === 'birthday') return category === 'D' || category === 'S';
  if (kind === 'email') return category === 'S' || type === 'citext';
  return kind !== undefined && category !== 'B' && category !== 'D';
}

/** What most values are; personal data in any text makes it free text. */
function kindOfValues(values: readonly string[]): { kind: DataKind; value: string } | undefined {
  const kinds = values.map((value) => ({ kind: kindOfValue(value), value }));
  for (const kind of ['secret', 'card', 'national-id', 'iban', 'email', 'phone'] as const) {
    const of = kinds.filter((one) => one.kind === kind);
    const [first] = of;
    if (first !== undefined && of.length * 2 >= values.length) return { kind, value: first.value };
  }
  const some = kinds.find(({ kind }) => kind !== undefined && kind !== 'phone' && kind !== 'card');
  return some === undefined ? undefined : { kind: 'free-text', value: some.value };
}

const MASKS: Readonly<Record<DataKind, MaskName>> = {
  email: 'email',
  card: 'last4',
  'national-id': 'last4',
  phone: 'last4',
  iban: 'last4',
  secret: 'full',
  birthday: 'year',
  'free-text': 'null',
};

/** A mask that the column's type can hold. */
function classOf(kind: DataKind, { category }: ColumnRow): { className: string; mask: MaskName } {
  const mask = MASKS[kind];
  const fitting = mask === 'year' ? category === 'D' : category === 'S' || mask === 'null';
  return fitting ? { className: kind, mask } : { className: `${kind}-hidden`, mask: 'null' };
}
