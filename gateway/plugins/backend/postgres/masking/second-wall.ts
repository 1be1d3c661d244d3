/**
 * A second wall behind masked views. Results of a view carry the view's number, so that a classified
 * column of a table itself in a session's results means that the first wall did not hold: somebody gave
 * rights on the table, or on a child of it. Only descriptions of results are looked at, not rows; what
 * carries no origin (expressions, COPY) is the database's to keep.
 */
import { type ColumnClass, Mask } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../../../../runtime/clock.ts';
import type { Logger } from '../../../../../runtime/log.ts';
import type { BodyReader } from '../wire/message-body.ts';
import type { CatalogQuery, Classification } from './masked-relations.ts';

export interface SecondWallOptions {
  readonly query: CatalogQuery;
  readonly classification: Classification;
  readonly clock: Clock;
  readonly log: Logger;
}

const REFRESH_INTERVAL_MS = 30_000;
/** Type, length, typmod and format after a column's origin. */
const AFTER_ORIGIN = 12;

/**
 * Tables of these names where they are or where the layout `in-place` moved them, with their children and
 * parents, and the numbers of their columns. Views of ours have an owner of ours.
 */
const COLUMNS = `with recursive named (oid, name) as (
    select c.oid, t.name from pg_catalog.pg_class c
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      join pg_catalog.unnest($1::text[]) as t (name)
        on t.name = pg_catalog.regexp_replace(n.nspname, '^writ_base_', '') || '.' || c.relname
      where c.relkind in ('r', 'p', 'm', 'f')
        or (c.relkind = 'v' and pg_catalog.pg_get_userbyid(c.relowner) !~ '^writ_o_[0-9a-f]{16}$')
  ), below (oid, name) as (
    select oid, name from named
    union select i.inhrelid, b.name from below b join pg_catalog.pg_inherits i on i.inhparent = b.oid
  ), above (oid, name) as (
    select oid, name from named
    union select i.inhparent, a.name from above a join pg_catalog.pg_inherits i on i.inhrelid = a.oid
  )
  select f.oid::text as relation, f.name, a.attnum as number, a.attname as column
    from (select * from below union select * from above) f
    join pg_catalog.pg_attribute a on a.attrelid = f.oid and a.attnum > 0 and not a.attisdropped`;

export class SecondWall implements AsyncDisposable {
  readonly #options: SecondWallOptions;
  readonly #stop = new AbortController();
  #classification: Classification;
  /** Names of classified columns by number, by the table's number; number 0 is the whole row. */
  #tables: ReadonlyMap<number, ReadonlyMap<number, string>> = new Map();
  #following: Promise<void> | undefined;
  #isOld = new AbortController();

  constructor(options: SecondWallOptions) {
    this.#options = options;
    this.#classification = options.classification;
  }

  /** Reads the catalog now, and again now and then. */
  start(): void {
    this.#following ??= this.#readUntilStopped();
  }

  /** Other columns are classified from now on. */
  follow(classification: Classification): void {
    if (sameColumns(classification, this.#classification)) return;
    this.#classification = classification;
    this.#isOld.abort();
  }

  /** The first classified column that a RowDescription shows past its view. @throws Fault PROTOCOL_VIOLATION */
  unmaskedIn(body: BodyReader): string | undefined {
    if (this.#tables.size === 0) return undefined;
    for (let left = body.count(); left > 0; left -= 1) {
      body.cstringBytes();
      const columns = this.#tables.get(body.int32() >>> 0);
      const name = columns?.get(body.int16());
      if (name !== undefined) return name;
      body.bytes(AFTER_ORIGIN);
    }
    return undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#isOld.abort();
    await this.#following;
  }

  async #readUntilStopped(): Promise<void> {
    const { clock, log } = this.#options;
    while (!this.#stop.signal.aborted) {
      this.#isOld = new AbortController();
      await this.#read().catch((error: unknown) => {
        // What was known stays known: the first wall does not depend on this one.
        log.warn({ err: error }, 'reading the catalog for the second wall failed');
      });
      await clock.wait(REFRESH_INTERVAL_MS, this.#isOld.signal).catch(() => undefined);
    }
  }

  async #read(): Promise<void> {
    const classified = classifiedColumns(this.#classification);
    if (classified.size === 0) {
      this.#tables = new Map();
      return;
    }
    const rows = await this.#options.query(COLUMNS, [[...classified.keys()]]);
    const tables = new Map<number, Map<number, string>>();
    for (const row of rows) {
      const table = String(row.name);
      const column = String(row.column);
      if (classified.get(table)?.has(column) !== true) continue;
      const relation = Number(row.relation);
      const columns = tables.get(relation) ?? new Map([[0, table]]);
      tables.set(relation, columns.set(Number(row.number), `${table}.${column}`));
    }
    this.#tables = tables;
  }
}

/** Names of columns that have a mask, by `schema.table`. */
function classifiedColumns({ columns, classes }: Classification): Map<string, Set<string>> {
  const byTable = new Map<string, Set<string>>();
  for (const { table, columns: named } of columns.flatMap((one) => one.tables)) {
    for (const [column, name] of Object.entries(named)) {
      if (isOpen(classes.get(name))) continue;
      byTable.set(table, (byTable.get(table) ?? new Set()).add(column));
    }
  }
  return byTable;
}

function isOpen(columnClass: ColumnClass | undefined): boolean {
  return columnClass?.mask === Mask.NONE;
}

function sameColumns(one: Classification, other: Classification): boolean {
  const [before, after] = [one, other].map((some) =>
    JSON.stringify([...classifiedColumns(some)].map(([table, names]) => [table, [...names]])),
  );
  return before === after;
}
