import type { CatalogColumn, CatalogTable } from '../../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Mask, type PostgresRights } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Classification, TableIndex } from './postgres-classes.ts';

/** Columns by `schema.table`. */
export type ColumnIndex = ReadonlyMap<string, readonly CatalogColumn[]>;

/** What a grant gives on one table: names of columns that exist. */
export interface TableRights {
  readonly table: CatalogTable;
  readonly select: ReadonlySet<string>;
  readonly insert: ReadonlySet<string>;
  readonly update: ReadonlySet<string>;
  readonly delete: boolean;
  /** Of the classified columns, those that may be written. */
  readonly writeMasked: ReadonlySet<string>;
}

export interface TableRightsContext {
  readonly tables: TableIndex;
  /** What a grant of the whole table means. */
  readonly known: ColumnIndex;
  readonly masked: Classification;
  warn(text: string): void;
}

type Verb = 'select' | 'insert' | 'update';

/** A grant's rights by `schema.table`. What does not exist is left out, with a warning. */
export function rightsByTable(
  rights: PostgresRights,
  context: TableRightsContext,
): ReadonlyMap<string, TableRights> {
  const collector = new Collector(rights, context);
  for (const verb of ['select', 'insert', 'update'] as const) {
    for (const name of rights[verb]) collector.whole(verb, name);
  }
  for (const name of rights.delete) collector.delete(name);
  for (const { table, ...lists } of rights.columns) {
    for (const verb of ['select', 'insert', 'update'] as const) {
      for (const column of lists[verb]) collector.column(verb, table, column);
    }
  }
  return collector.byTable;
}

interface MutableRights extends TableRights {
  readonly select: Set<string>;
  readonly insert: Set<string>;
  readonly update: Set<string>;
  delete: boolean;
}

class Collector {
  readonly byTable = new Map<string, MutableRights>();
  readonly #context: TableRightsContext;
  readonly #writeMasked: ReadonlySet<string>;

  constructor(rights: PostgresRights, context: TableRightsContext) {
    this.#context = context;
    this.#writeMasked = new Set(rights.writeMasked);
  }

  /** All columns that are known; to be written, those alone that the grant may write. */
  whole(verb: Verb, name: string): void {
    const found = this.#of(name);
    if (found === undefined) return;
    const columns = this.#context.known.get(name) ?? [];
    const usable = columns.filter((one) => verb === 'select' || this.#isWritable(name, one.name));
    for (const column of usable) found[verb].add(column.name);
  }

  column(verb: Verb, name: string, column: string): void {
    const found = this.#of(name);
    if (found === undefined) return;
    if (!found.table.columns.some((one: CatalogColumn) => one.name === column)) {
      this.#context.warn(`column ${name}.${column} does not exist`);
    } else if (verb === 'select' || this.#isWritable(name, column)) {
      found[verb].add(column);
    } else {
      this.#context.warn(`${verb} of ${name}.${column} is not set up, because it is classified`);
    }
  }

  delete(name: string): void {
    const found = this.#of(name);
    if (found !== undefined) found.delete = true;
  }

  /** Whoever writes a column and sees its hashes finds every value by trying (threats P4). */
  #isWritable(table: string, column: string): boolean {
    const rule = this.#context.masked.get(table)?.get(column);
    if (rule === undefined) return true;
    return rule.mask !== Mask.HASH && this.#writeMasked.has(`${table}.${column}`);
  }

  #of(name: string): MutableRights | undefined {
    const before = this.byTable.get(name);
    if (before !== undefined) return before;
    const table = this.#context.tables.get(name);
    const problem = table === undefined ? 'does not exist' : 'has no columns';
    if (table === undefined || table.columns.length === 0) {
      this.#context.warn(`table ${name} ${problem}`);
      return undefined;
    }
    const rules = [...(this.#context.masked.get(name)?.keys() ?? [])];
    const found: MutableRights = {
      table,
      select: new Set(),
      insert: new Set(),
      update: new Set(),
      delete: false,
      writeMasked: new Set(rules.filter((column) => this.#isWritable(name, column))),
    };
    this.byTable.set(name, found);
    return found;
  }
}
