import type { CatalogTable } from '../../../proto/gen/writ/admin/v1/admin_pb.ts';
import type {
  Grant,
  Mask,
  PostgresRights,
} from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Classification, TableIndex } from './postgres-classes.ts';
import { maskColumn } from './postgres-mask.ts';
import { comment, identifier, literal, qualified } from './postgres-quote.ts';

/** What one grant becomes in its database. */
export interface GrantPlan {
  /** NOLOGIN; session roles are its members and have no right but its own. */
  readonly groupRole: string;
  /** NOLOGIN, member of nothing; owns the masked views and reads what they need (threats P8). */
  readonly viewOwner: string;
  readonly viewSchema: string;
  /** Schemas, views and rights; the roles are there already and hold nothing. */
  readonly sql: string;
  /** Relations whose columns the group reads directly. */
  readonly direct: readonly CatalogTable[];
}

export interface GrantContext {
  readonly database: string;
  readonly tables: TableIndex;
  readonly classified: Classification;
  warn(text: string): void;
}

const GROUP_ROLE = /^writ_g_([0-9a-f]{16})$/;

/** Plans one grant's roles, masked views and rights: exactly its own, and nothing by default. */
export function planGrant(grant: Grant, rights: PostgresRights, context: GrantContext): GrantPlan {
  const hash = GROUP_ROLE.exec(rights.groupRole)?.[1];
  if (hash === undefined || rights.viewSchema !== `writ_v_${hash}`) {
    throw new Error(`grant ${grant.name} has no names of its own`);
  }
  const plan = {
    groupRole: rights.groupRole,
    viewOwner: `writ_o_${hash}`,
    viewSchema: rights.viewSchema,
  };
  const warn = (text: string) => context.warn(`grant ${grant.name}: ${text}`);
  const builder = new GrantBuilder(plan, { ...context, warn });
  for (const name of new Set(rights.select)) builder.select(name);
  for (const name of new Set(rights.insert)) builder.write('INSERT', name);
  for (const name of new Set(rights.update)) builder.write('UPDATE', name);
  for (const name of new Set(rights.delete)) builder.write('DELETE', name);
  const searchPath = builder.searchPath().map((name) => `${literal(name)}`);
  const row = [plan.groupRole, plan.viewOwner, plan.viewSchema, grant.identity].map(literal);
  const sql = [
    comment(`Grant ${grant.name} of ${grant.identity}: ${grant.purpose}`),
    `INSERT INTO writ.grant_group (name, view_owner, view_schema, identity, search_path)`,
    `  VALUES (${row.join(', ')}, ARRAY[${searchPath.join(', ')}]::name[]);`,
    `CREATE SCHEMA ${plan.viewSchema} AUTHORIZATION ${plan.viewOwner};`,
    `GRANT USAGE ON SCHEMA ${plan.viewSchema} TO ${plan.groupRole};`,
    `GRANT CONNECT ON DATABASE ${identifier(context.database)} TO ${plan.groupRole};`,
    ...builder.statements(),
  ].join('\n');
  return { ...plan, sql, direct: builder.direct() };
}

type Names = Pick<GrantPlan, 'groupRole' | 'viewOwner' | 'viewSchema'>;

class GrantBuilder {
  readonly #names: Names;
  readonly #context: GrantContext;
  readonly #statements: string[] = [];
  readonly #schemas = new Set<string>();
  readonly #usable = new Set<string>();
  readonly #views = new Set<string>();
  readonly #direct: CatalogTable[] = [];

  constructor(names: Names, context: GrantContext) {
    this.#names = names;
    this.#context = context;
  }

  select(name: string): void {
    const table = this.#find(name);
    if (table === undefined) return;
    const masks = this.#context.classified.get(name);
    if (masks !== undefined) {
      this.#addView(table, masks);
      return;
    }
    this.#direct.push(table);
    this.#grant(`SELECT (${columnList(table)})`, table);
  }

  write(right: 'INSERT' | 'UPDATE' | 'DELETE', name: string): void {
    const table = this.#find(name);
    if (table === undefined) return;
    if (this.#context.classified.has(name)) {
      const what = right.toLowerCase();
      this.#context.warn(`${what} on ${name} is not set up, because it has classified columns`);
      return;
    }
    this.#grant(right === 'DELETE' ? right : `${right} (${columnList(table)})`, table);
    if (right === 'INSERT') this.#statements.push(sequenceUsage(table, this.#names.groupRole));
  }

  statements(): string[] {
    const usage = [...this.#usable].map(
      (schema) => `GRANT USAGE ON SCHEMA ${identifier(schema)} TO ${this.#names.groupRole};`,
    );
    return [...usage, ...this.#statements];
  }

  /** Views first, then where the granted tables lie, so that unqualified names find both. */
  searchPath(): string[] {
    return [this.#names.viewSchema, ...new Set([...this.#schemas, 'public'])];
  }

  direct(): readonly CatalogTable[] {
    return this.#direct;
  }

  #find(name: string): CatalogTable | undefined {
    const table = this.#context.tables.get(name);
    if (table === undefined) {
      this.#context.warn(`table ${name} does not exist`);
      return undefined;
    }
    if (table.columns.length === 0) {
      this.#context.warn(`table ${name} has no columns`);
      return undefined;
    }
    this.#schemas.add(table.schema);
    return table;
  }

  #grant(right: string, table: CatalogTable): void {
    this.#usable.add(table.schema);
    this.#statements.push(`GRANT ${right} ON ${qualified(table)} TO ${this.#names.groupRole};`);
  }

  #addView(table: CatalogTable, masks: ReadonlyMap<string, Mask>): void {
    const { groupRole, viewOwner, viewSchema } = this.#names;
    if (this.#views.has(table.name)) {
      this.#context.warn(`${table.schema}.${table.name} has no view: another table has its name`);
      return;
    }
    this.#views.add(table.name);
    const columns = table.columns.map((column) => {
      const mask = masks.get(column.name);
      const plain = { expression: `t.${identifier(column.name)}`, readsColumn: true, fits: true };
      const shown = mask === undefined ? plain : maskColumn(table, column, mask);
      if (!shown.fits) {
        const where = `${table.schema}.${table.name}.${column.name}`;
        this.#context.warn(`the mask of ${where} has no form for ${column.type}: it is NULL`);
      }
      return { name: column.name, ...shown };
    });
    const read = columns
      .filter(({ readsColumn }) => readsColumn)
      .map(({ name }) => identifier(name));
    // A query that reads no column still needs the right to one.
    const needed = read.length > 0 ? read : [identifier(table.columns[0]?.name ?? '')];
    const view = qualified({ schema: viewSchema, name: table.name });
    const lines = columns.map(({ name, expression }) => `  ${expression} AS ${identifier(name)}`);
    this.#statements.push(
      `CREATE VIEW ${view} AS SELECT\n${lines.join(',\n')}\n  FROM ${qualified(table)} AS t;`,
      `ALTER VIEW ${view} OWNER TO ${viewOwner};`,
      `GRANT SELECT (${needed.join(', ')}) ON ${qualified(table)} TO ${viewOwner};`,
      `GRANT SELECT ON ${view} TO ${groupRole};`,
    );
  }
}

function columnList(table: CatalogTable): string {
  return table.columns.map(({ name }) => identifier(name)).join(', ');
}

/** The sequences behind serial columns; identity columns need no right. */
function sequenceUsage(table: CatalogTable, groupRole: string): string {
  return `DO $writ$
DECLARE
  owned regclass;
BEGIN
  FOR owned IN SELECT d.objid FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S'
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
      AND d.refobjid = ${literal(qualified(table))}::regclass AND d.deptype = 'a'
  LOOP
    EXECUTE format('GRANT USAGE ON SEQUENCE %s TO ${groupRole}', owned);
  END LOOP;
END $writ$;`;
}
