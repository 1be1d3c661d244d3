/**
 * Which relations of a backend's database show classified columns, by the numbers that results carry.
 *
 * A view's results carry the view's numbers and the catalog does not tell which of its columns shows
 * what, so a view over a classified table is masked whole, unless it is classified itself. Partitions
 * and parents share columns by name. What is not known yet is masked whole.
 */
import {
  type ColumnClass,
  type Columns,
  Mask,
} from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { ColumnRule, RelationRules } from './result-plan.ts';

/** Relations of the system have smaller numbers. */
const FIRST_OWN_OID = 16_384;
const MOST_RELATIONS = 200_000;

/** Runs one statement on the gateway's own connection. */
export type CatalogQuery = (
  text: string,
  values?: readonly unknown[],
) => Promise<readonly Readonly<Record<string, unknown>>[]>;

export interface Classification {
  readonly columns: readonly Columns[];
  readonly classes: ReadonlyMap<string, ColumnClass>;
}

const RELATIONS = `select c.oid::text as oid, n.nspname as schema, c.relname as name
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'v', 'm', 'f') limit ${MOST_RELATIONS + 1}`;
const KINSHIP = `select inhrelid::text as one, inhparent::text as other from pg_catalog.pg_inherits`;
const VIEW_SOURCES = `select distinct r.ev_class::text as view, d.refobjid::text as source
  from pg_catalog.pg_rewrite r
  join pg_catalog.pg_depend d
    on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
  where d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid <> r.ev_class`;
const ATTRIBUTES = `select attrelid::text as oid, attnum, attname as name
  from pg_catalog.pg_attribute
  where attrelid = any($1::text[]::oid[]) and attnum > 0 and not attisdropped`;

interface Relation {
  readonly oid: number;
  /** `schema.table`. */
  readonly name: string;
  readonly bareName: string;
}

type ClassOfColumn = ReadonlyMap<string, string>;

export class MaskedRelations {
  readonly #rules: ReadonlyMap<number, RelationRules>;
  readonly #known: ReadonlySet<number>;
  readonly #shownNames: ReadonlySet<string>;
  readonly #knownNames: ReadonlyMap<string, readonly string[]>;
  /** By bare name of the relation. */
  readonly #columnNames: ReadonlyMap<string, ReadonlySet<string>>;
  readonly #allColumnNames: ReadonlySet<string>;

  private constructor(
    relations: readonly Relation[],
    rules: ReadonlyMap<number, RelationRules>,
    columnNames: ReadonlyMap<string, ReadonlySet<string>>,
  ) {
    const names = new Map<string, string[]>();
    for (const { name, bareName } of relations) {
      const same = names.get(bareName);
      if (same === undefined) names.set(bareName, [name]);
      else same.push(name);
    }
    this.#rules = rules;
    this.#known = new Set(relations.map(({ oid }) => oid));
    this.#knownNames = names;
    this.#shownNames = new Set(
      relations.filter(({ oid }) => rules.has(oid)).map(({ bareName }) => bareName),
    );
    this.#columnNames = columnNames;
    this.#allColumnNames = new Set([...columnNames.values()].flatMap((some) => [...some]));
  }

  /** @throws what the query throws */
  static async read(query: CatalogQuery, classification: Classification): Promise<MaskedRelations> {
    const rows = await query(RELATIONS);
    if (rows.length > MOST_RELATIONS) throw new Error('the database has too many relations');
    const relations = rows.map(({ oid, schema, name }) => ({
      oid: Number(oid),
      name: `${schema}.${name}`,
      bareName: String(name),
    }));
    const classified = classesByRelation(relations, classification.columns);
    spreadToKin(classified, pairs(await query(KINSHIP), 'one', 'other'));
    const hidden = viewsOver(classified, pairs(await query(VIEW_SOURCES), 'view', 'source'));
    const oids = [...classified.keys(), ...hidden].map(String);
    const attributes = attributesByRelation(await query(ATTRIBUTES, [oids]));
    const rules = new Map<number, RelationRules>();
    const columnNames = new Map<string, Set<string>>();
    for (const { oid, name, bareName } of relations) {
      const classes = classified.get(oid);
      if (classes === undefined && !hidden.has(oid)) continue;
      const named = attributes.get(oid) ?? new Map<string, number>();
      const isHidden = classes === undefined;
      rules.set(oid, rulesOf(name, { classes, named, isHidden }, classification.classes));
      const known = columnNames.get(bareName) ?? new Set<string>();
      for (const column of isHidden ? named.keys() : classes.keys()) known.add(column);
      columnNames.set(bareName, known);
    }
    return new MaskedRelations(relations, rules, columnNames);
  }

  /** @returns 'open' if no column is classified; undefined if the number is not known */
  relation(oid: number): RelationRules | 'open' | undefined {
    if (oid < FIRST_OWN_OID) return 'open';
    return this.#rules.get(oid) ?? (this.#known.has(oid) ? 'open' : undefined);
  }

  /** Whether a relation of that bare name shows a classified column, or is not known. */
  mayShow(name: string, isCte: boolean): boolean {
    if (this.#shownNames.has(name)) return true;
    return !isCte && !this.#knownNames.has(name);
  }

  /** Names of its columns that are masked; of a relation that is not known, all such names. */
  columnsOf(bareName: string): ReadonlySet<string> {
    return this.#columnNames.get(bareName) ?? this.#allColumnNames;
  }

  /** `schema.table` of all relations of that bare name. */
  named(bareName: string): readonly string[] {
    return this.#knownNames.get(bareName) ?? [];
  }
}

function classesByRelation(
  relations: readonly Relation[],
  columns: readonly Columns[],
): Map<number, ClassOfColumn> {
  const byName = new Map<string, Map<string, string>>();
  for (const { table, columns: named } of columns.flatMap(({ tables }) => tables)) {
    const before = byName.get(table) ?? new Map<string, string>();
    for (const [column, className] of Object.entries(named)) before.set(column, className);
    byName.set(table, before);
  }
  const classified = new Map<number, ClassOfColumn>();
  for (const { oid, name } of relations) {
    const classes = byName.get(name);
    if (classes !== undefined) classified.set(oid, classes);
  }
  return classified;
}

/** Partitions, children and parents hold the same rows. */
function spreadToKin(
  classified: Map<number, ClassOfColumn>,
  kinship: readonly (readonly [number, number])[],
): void {
  for (let before = -1; before !== classified.size; ) {
    before = classified.size;
    for (const [one, other] of kinship) {
      const classes = classified.get(one) ?? classified.get(other);
      if (classes === undefined) continue;
      if (!classified.has(one)) classified.set(one, classes);
      if (!classified.has(other)) classified.set(other, classes);
    }
  }
}

function viewsOver(
  classified: ReadonlyMap<number, unknown>,
  sources: readonly (readonly [number, number])[],
): ReadonlySet<number> {
  const hidden = new Set<number>();
  for (let before = -1; before !== hidden.size; ) {
    before = hidden.size;
    for (const [view, source] of sources) {
      const shows = classified.has(source) || hidden.has(source);
      if (shows && !classified.has(view)) hidden.add(view);
    }
  }
  return hidden;
}

function rulesOf(
  name: string,
  relation: {
    readonly classes: ClassOfColumn | undefined;
    readonly named: ReadonlyMap<string, number>;
    readonly isHidden: boolean;
  },
  classes: ReadonlyMap<string, ColumnClass>,
): RelationRules {
  const columns = new Map<number, ColumnRule>();
  let isRenamed = false;
  for (const [column, className] of relation.classes ?? []) {
    const number = relation.named.get(column);
    const known = classes.get(className);
    // A classified column that is not there has another name now, and nobody knows which.
    if (number === undefined) isRenamed ||= known?.mask !== Mask.NONE;
    else {
      columns.set(number, {
        column: `${name}.${column}`,
        mask: known?.mask ?? Mask.FULL,
        rangeSize: known?.rangeSize ?? 0n,
      });
    }
  }
  const lastKnown = Math.max(0, ...relation.named.values());
  return { name, columns, othersHidden: relation.isHidden || isRenamed, lastKnown };
}

function attributesByRelation(
  rows: readonly Readonly<Record<string, unknown>>[],
): ReadonlyMap<number, ReadonlyMap<string, number>> {
  const byRelation = new Map<number, Map<string, number>>();
  for (const { oid, attnum, name } of rows) {
    const named = byRelation.get(Number(oid)) ?? new Map<string, number>();
    named.set(String(name), Number(attnum));
    byRelation.set(Number(oid), named);
  }
  return byRelation;
}

function pairs(
  rows: readonly Readonly<Record<string, unknown>>[],
  one: string,
  other: string,
): readonly (readonly [number, number])[] {
  return rows.map((row) => [Number(row[one]), Number(row[other])] as const);
}
