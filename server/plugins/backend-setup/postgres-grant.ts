import type { CatalogTable } from '../../../proto/gen/writ/admin/v1/admin_pb.ts';
import type { Grant, PostgresRights } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Classification, TableIndex } from './postgres-classes.ts';
import { ddlOwnerSql } from './postgres-ddl.ts';
import { otherRights } from './postgres-other-rights.ts';
import { comment, identifier, literal, qualified } from './postgres-quote.ts';
import { onOwnedSequences, sequenceUsage } from './postgres-sequences.ts';
import type { ColumnIndex } from './postgres-table-rights.ts';
import { rightsByTable, type TableRights } from './postgres-table-rights.ts';
import { maskedView } from './postgres-view.ts';

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
  /** Names of all tables that it names and that exist. */
  readonly tables: readonly string[];
  /** Rights on tables that it reaches through a view that is not its own. */
  readonly shared: readonly TableRights[];
}

export interface GrantContext {
  readonly database: string;
  readonly tables: TableIndex;
  readonly known: ColumnIndex;
  readonly masked: Classification;
  /** Owner of views that all grants share (layout `in-place`); absent where each has its own. */
  readonly sharedOwner: string | undefined;
  warn(text: string): void;
}

const GROUP_ROLE = /^writ_g_([0-9a-f]{16})$/;

/** Plans one grant's roles, masked views and rights: exactly its own, and nothing by default. */
export function planGrant(grant: Grant, rights: PostgresRights, context: GrantContext): GrantPlan {
  const hash = GROUP_ROLE.exec(rights.groupRole)?.[1];
  if (hash === undefined || rights.viewSchema !== `writ_v_${hash}`) {
    throw new Error(`grant ${grant.name} has no names of its own`);
  }
  const names = {
    groupRole: rights.groupRole,
    viewOwner: context.sharedOwner ?? `writ_o_${hash}`,
    viewSchema: rights.viewSchema,
  };
  const warn = (text: string) => context.warn(`grant ${grant.name}: ${text}`);
  const lockable = new Set(rights.statements.includes('lock') ? rights.select : []);
  const builder = new GrantBuilder(names, { ...context, warn, lockable });
  const byTable = rightsByTable(rights, { ...context, warn });
  for (const [name, ofTable] of byTable) builder.table(name, ofTable);
  warnOfSharedSchemas(rights, { ...context, warn });
  const sql = [
    comment(`Grant ${grant.name} of ${grant.identity}: ${grant.purpose}`),
    groupRow(grant, rights, names, searchPath(names, rights, builder, context)),
    ...(context.sharedOwner === undefined
      ? [
          `CREATE SCHEMA ${names.viewSchema} AUTHORIZATION ${names.viewOwner};`,
          `GRANT USAGE ON SCHEMA ${names.viewSchema} TO ${names.groupRole};`,
        ]
      : []),
    `GRANT CONNECT ON DATABASE ${identifier(context.database)} TO ${names.groupRole};`,
    ...builder.statements(),
    ...otherRights(rights, { grant: grant.name, groupRole: names.groupRole }),
    ...(rights.ddlOwner ? [ddlOwnerSql(rights.ddlOwner, names.groupRole)] : []),
  ].join('\n');
  const { direct, shared } = builder;
  return { ...names, sql, tables: [...byTable.keys()], direct, shared };
}

/** Whoever creates where others look for names can stand in their way. */
function warnOfSharedSchemas({ ddlOwner }: PostgresRights, { tables, warn }: GrantContext): void {
  for (const schema of ddlOwner?.schemas ?? []) {
    const isShared = [...tables.values()].some(
      (table) => table.schema === schema && table.owner !== ddlOwner?.role,
    );
    if (isShared) warn(`ddl in schema ${schema}, which holds tables of others: use one of its own`);
  }
}

function groupRow(
  grant: Grant,
  rights: PostgresRights,
  { groupRole, viewOwner, viewSchema }: Names,
  path: readonly string[],
): string {
  const row = [groupRole, viewOwner, viewSchema, grant.identity].map(literal);
  const owner = rights.ddlOwner === undefined ? 'NULL' : literal(rights.ddlOwner.role);
  const settings = literal(JSON.stringify(rights.settings));
  const names = path.map((name) => literal(name)).join(', ');
  return `INSERT INTO writ.grant_group (name, view_owner, view_schema, identity, search_path, ddl_owner, settings)
  VALUES (${row.join(', ')}, ARRAY[${names}]::name[], ${owner}, ${settings});`;
}

/** Views first, then where the granted tables lie, so that unqualified names find both. */
function searchPath(
  { viewSchema }: Names,
  rights: PostgresRights,
  builder: GrantBuilder,
  { sharedOwner }: GrantContext,
): string[] {
  const own = sharedOwner === undefined ? [viewSchema] : [];
  return [...own, ...new Set([...builder.schemas, ...(rights.ddlOwner?.schemas ?? []), 'public'])];
}

type Names = Pick<GrantPlan, 'groupRole' | 'viewOwner' | 'viewSchema'>;

interface BuilderContext extends GrantContext {
  /** Tables that the grant reads whole and may lock. */
  readonly lockable: ReadonlySet<string>;
}

class GrantBuilder {
  readonly schemas = new Set<string>();
  readonly direct: CatalogTable[] = [];
  readonly shared: TableRights[] = [];
  readonly #names: Names;
  readonly #context: BuilderContext;
  readonly #statements: string[] = [];
  readonly #usable = new Set<string>();
  readonly #views = new Set<string>();

  constructor(names: Names, context: BuilderContext) {
    this.#names = names;
    this.#context = context;
  }

  /** Directly, or through a view if it has classified columns. */
  table(name: string, rights: TableRights): void {
    const { table } = rights;
    this.schemas.add(table.schema);
    const masks = this.#context.masked.get(name);
    if (masks === undefined) {
      this.#grantDirectly(rights);
      if (this.#context.lockable.has(name)) this.#grantToLock(name, rights);
      return;
    }
    if (this.#context.sharedOwner !== undefined) {
      this.#usable.add(table.schema);
      this.shared.push(rights);
      return;
    }
    const { groupRole, viewOwner, viewSchema } = this.#names;
    if (this.#views.has(table.name)) {
      this.#context.warn(`${name} has no view: another table has its name`);
      return;
    }
    this.#views.add(table.name);
    this.#statements.push(
      maskedView({
        view: { schema: viewSchema, name: table.name },
        owner: viewOwner,
        home: viewSchema,
        schema: table.schema,
        base: table,
        masks,
        uses: [{ groupRole, rights }],
        warn: (text) => this.#context.warn(text),
      }),
    );
    if (rights.insert.size > 0) {
      this.#statements.push(...sequenceUsage(table, [groupRole, viewOwner]));
    }
  }

  statements(): string[] {
    const usage = [...this.#usable].map(
      (schema) => `GRANT USAGE ON SCHEMA ${identifier(schema)} TO ${this.#names.groupRole};`,
    );
    return [...usage, ...this.#statements];
  }

  #grantDirectly({ table, ...rights }: TableRights): void {
    if (rights.select.size > 0) this.direct.push(table);
    for (const verb of ['select', 'insert', 'update'] as const) {
      if (rights[verb].size === 0) continue;
      const columns = [...rights[verb]].map(identifier).join(', ');
      this.#grant(`${verb.toUpperCase()} (${columns})`, table);
    }
    if (rights.delete) this.#grant('DELETE', table);
    if (rights.insert.size > 0) {
      this.#statements.push(...sequenceUsage(table, [this.#names.groupRole]));
    }
  }

  /**
   * LOCK TABLE, and so pg_dump, asks for SELECT on the table itself; pg_dump also reads its sequences.
   * A table of which the grant may not see every column stays as it is.
   */
  #grantToLock(name: string, { table, select }: TableRights): void {
    if (table.columns.some((column) => !select.has(column.name))) {
      this.#context.warn(`${name} cannot be locked or dumped: not every column of it may be read`);
      return;
    }
    this.#context.warn(`${name} may be locked, so columns that it gets later are seen at once`);
    this.#grant('SELECT', table);
    this.#statements.push(
      ...onOwnedSequences('SELECT', table, [this.#names.groupRole], ['a', 'i']),
    );
  }

  #grant(right: string, table: CatalogTable): void {
    this.#usable.add(table.schema);
    this.#statements.push(`GRANT ${right} ON ${qualified(table)} TO ${this.#names.groupRole};`);
  }
}
