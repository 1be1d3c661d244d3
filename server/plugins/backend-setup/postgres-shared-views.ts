import type { CatalogTable } from '../../../proto/gen/writ/admin/v1/admin_pb.ts';
import type { TableIndex } from './postgres-classes.ts';
import type { GrantContext, GrantPlan } from './postgres-grant.ts';
import { moveAway, movedTable } from './postgres-layout.ts';
import { identifier } from './postgres-quote.ts';
import { sequenceUsage } from './postgres-sequences.ts';
import { maskedView } from './postgres-view.ts';
import type { ViewUse } from './postgres-view-plan.ts';

export interface SharedViews {
  /** Moves the tables and makes their views, which serve all grants. */
  readonly sql: string;
  /** All tables as they lie then. */
  readonly tables: TableIndex;
}

/** The views of the layout `in-place`; nothing where each grant has views of its own. */
export function sharedViews(grants: readonly GrantPlan[], context: GrantContext): SharedViews {
  const { sharedOwner: owner, masked, warn } = context;
  const tables = new Map(context.tables);
  if (owner === undefined) return { sql: '', tables };
  const statements: string[] = [];
  for (const [key, { table, uses }] of usesByTable(grants)) {
    const base = movedTable(table);
    const masks = masked.get(key);
    if (base === undefined || masks === undefined) {
      warn(`${key} has no view: the name of its schema is too long`);
      continue;
    }
    tables.set(key, base);
    warn(`${key} moves to schema ${base.schema}: who names it without Writ finds the masked view`);
    statements.push(
      moveAway(table, base),
      `GRANT USAGE ON SCHEMA ${identifier(base.schema)} TO ${owner};`,
      maskedView({
        view: table,
        owner,
        home: base.schema,
        schema: table.schema,
        base,
        masks,
        uses,
        warn,
      }),
      ...(inserters(uses).length > 0 ? sequenceUsage(base, [owner, ...inserters(uses)]) : []),
    );
  }
  return { sql: statements.join('\n'), tables };
}

function usesByTable(
  grants: readonly GrantPlan[],
): ReadonlyMap<string, { readonly table: CatalogTable; readonly uses: readonly ViewUse[] }> {
  const byTable = new Map<string, { table: CatalogTable; uses: ViewUse[] }>();
  for (const { groupRole, shared } of grants) {
    for (const rights of shared) {
      const { table } = rights;
      const key = `${table.schema}.${table.name}`;
      const found = byTable.get(key) ?? { table, uses: [] };
      byTable.set(key, found);
      found.uses.push({ groupRole, rights });
    }
  }
  return byTable;
}

function inserters(uses: readonly ViewUse[]): string[] {
  return uses.flatMap(({ groupRole, rights }) => (rights.insert.size > 0 ? [groupRole] : []));
}
