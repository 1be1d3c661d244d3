import type { CatalogColumn } from '../../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Mask } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { MaskRule } from './postgres-classes.ts';
import { type MaskedColumn, maskColumn } from './postgres-mask.ts';
import { identifier, qualified } from './postgres-quote.ts';
import type { ViewColumn, ViewPlan, ViewUse } from './postgres-view-plan.ts';
import { writeTriggers } from './postgres-write.ts';

/** A view with the rights of its owner and of all that it serves. */
export function maskedView(plan: ViewPlan): string {
  const { view, owner, base, uses } = plan;
  const columns = viewColumns(plan);
  const name = qualified(view);
  const lines = columns.map(
    ({ column, expression }) => `  ${expression} AS ${identifier(column.name)}`,
  );
  return [
    `CREATE VIEW ${name} AS SELECT\n${lines.join(',\n')}\n  FROM ${qualified(base)} AS t;`,
    `ALTER VIEW ${name} OWNER TO ${owner};`,
    ...ownerRights(plan, columns),
    ...uses.flatMap((use) => useRights(name, columns, use)),
    ...writeTriggers(plan, columns),
  ].join('\n');
}

/** Union over all uses, in the table's order, with the key that triggers find a row by. */
function viewColumns({ base, masks, uses, warn }: ViewPlan): ViewColumn[] {
  const needsKey = uses.some(({ rights }) => rights.writeMasked.size > 0);
  const wanted = new Set(needsKey ? base.key : []);
  for (const { rights } of uses) {
    for (const name of [...rights.select, ...rights.insert, ...rights.update]) wanted.add(name);
  }
  const chosen = base.columns.filter(({ name }) => wanted.has(name));
  // DELETE alone names no column, but a view has one.
  const [first] = base.columns.filter(({ name }) => !masks.has(name));
  const columns = chosen.length > 0 || first === undefined ? chosen : [first];
  return (columns.length > 0 ? columns : base.columns.slice(0, 1)).map((column) => {
    const rule = ruleOf(column, masks.get(column.name), uses);
    if (rule === undefined) return { column, rule, ...plainColumn(column.name) };
    const shown = maskColumn(base, column, rule);
    if (!shown.fits) {
      const where = `${base.schema}.${base.name}.${column.name}`;
      warn(`the mask of ${where} has no form for ${column.type}: it is NULL`);
    }
    return { column, rule, ...shown };
  });
}

/**
 * A generated column follows what the grant writes beside it: shown as a hash it would tell whether a
 * guess is right (threats P4).
 */
function ruleOf(
  column: CatalogColumn,
  rule: MaskRule | undefined,
  uses: readonly ViewUse[],
): MaskRule | undefined {
  const isWritten = uses.some(({ rights }) => rights.insert.size + rights.update.size > 0);
  return rule?.mask === Mask.HASH && column.generated && isWritten
    ? { mask: Mask.NULL, rangeSize: 0n }
    : rule;
}

function plainColumn(name: string): MaskedColumn {
  const expression = `t.${identifier(name)}`;
  return { expression, readsColumn: true, fits: true, readsKey: false };
}

/** What runs as the owner may do no more than what the view serves. */
function ownerRights({ owner, base, uses }: ViewPlan, columns: readonly ViewColumn[]): string[] {
  const read = columns.filter(({ readsColumn }) => readsColumn).map(({ column }) => column.name);
  // A query that reads no column still needs the right to one.
  const needed = read.length > 0 ? read : base.columns.slice(0, 1).map(({ name }) => name);
  const on = `ON ${qualified(base)} TO ${owner};`;
  const union = (verb: 'insert' | 'update') =>
    listOf(new Set(uses.flatMap(({ rights }) => [...rights[verb]])));
  return [
    `GRANT SELECT (${listOf(needed)}) ${on}`,
    ...(union('insert') === '' ? [] : [`GRANT INSERT (${union('insert')}) ${on}`]),
    ...(union('update') === '' ? [] : [`GRANT UPDATE (${union('update')}) ${on}`]),
    ...(uses.some(({ rights }) => rights.delete) ? [`GRANT DELETE ${on}`] : []),
    ...(columns.some(({ readsKey }) => readsKey)
      ? [`GRANT SELECT ON writ.mask_key TO ${owner};`]
      : []),
  ];
}

function useRights(
  view: string,
  columns: readonly ViewColumn[],
  { groupRole, rights }: ViewUse,
): string[] {
  const to = `ON ${view} TO ${groupRole};`;
  const all = columns.every(({ column }) => rights.select.has(column.name));
  const shown = all ? '' : ` (${listOf(rights.select)})`;
  return [
    ...(rights.select.size === 0 ? [] : [`GRANT SELECT${shown} ${to}`]),
    ...(rights.insert.size === 0 ? [] : [`GRANT INSERT (${listOf(rights.insert)}) ${to}`]),
    ...(rights.update.size === 0 ? [] : [`GRANT UPDATE (${listOf(rights.update)}) ${to}`]),
    ...(rights.delete ? [`GRANT DELETE ${to}`] : []),
  ];
}

function listOf(names: Iterable<string>): string {
  return [...names].map(identifier).join(', ');
}
