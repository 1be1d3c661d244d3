/**
 * Writing through a masked view (threats P2). Columns that it shows as they are, are updated through
 * the view itself. Where a grant may also write masked columns, triggers stand in its place:
 *
 * - An UPDATE leaves a masked column alone if it holds what the view showed. So an application that
 *   reads a row, changes a field and saves the whole row destroys nothing.
 * - A text that is a masked form, but not the row's own, is refused with 42501, on INSERT too.
 * - Between reading and writing the row may change. Then the UPDATE fails with 40001, because the
 *   values that it was computed from are no longer there.
 *
 * The triggers run as the view's owner, who reads the masked columns: an error's DETAIL would show the
 * row to the client. So they pass on its code and message alone.
 */
import { createHash } from 'node:crypto';
import { Mask } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { maskValue } from './postgres-mask.ts';
import { identifier, literal, qualified } from './postgres-quote.ts';
import type { ViewColumn, ViewPlan } from './postgres-view-plan.ts';

const MAXIMUM_NAME_BYTES = 63;

/** The triggers that the plan needs: none where no masked column is written. */
export function writeTriggers(plan: ViewPlan, columns: readonly ViewColumn[]): string[] {
  const { base, uses, warn } = plan;
  const masked = new Set(columns.flatMap(({ rule, column }) => (rule ? [column.name] : [])));
  const written = (verb: 'insert' | 'update') =>
    columns.filter(({ column }) => uses.some(({ rights }) => rights[verb].has(column.name)));
  const needsTrigger = (list: readonly ViewColumn[]) =>
    list.some(({ column }) => masked.has(column.name));
  const inserted = written('insert');
  const updated = written('update');
  if (!needsTrigger(inserted) && !needsTrigger(updated)) return [];
  const statements = [
    `GRANT USAGE ON SCHEMA ${identifier(base.schema)} TO ${plan.owner};`,
    ...(columns.some(({ readsKey }) => readsKey)
      ? [`GRANT USAGE ON SCHEMA writ TO ${plan.owner};`]
      : []),
  ];
  const table = `${base.schema}.${base.name}`;
  if (base.key.length === 0 || base.key.some((name) => masked.has(name))) {
    warn(`masked columns of ${table} cannot be written: it has no unique key that is shown`);
    return [];
  }
  if (needsTrigger(inserted)) {
    statements.push(trigger(plan, 'INSERT', insertBody(plan, columns, inserted)));
  }
  if (needsTrigger(updated)) {
    statements.push(trigger(plan, 'UPDATE', updateBody(plan, columns, updated)));
  }
  return statements;
}

function trigger(plan: ViewPlan, verb: 'INSERT' | 'UPDATE', body: string): string {
  const name = `${identifier(plan.home)}.${identifier(functionName(plan, verb))}`;
  return `CREATE FUNCTION ${name}() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = ${OWN_PATH} AS $writ$
#variable_conflict use_column
DECLARE
  writ_named text;
  writ_values text;
  writ_count bigint;
  writ_row record;
  writ_state text;
  writ_told text;
  writ_constraint text;
BEGIN
${body}
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS writ_state = RETURNED_SQLSTATE, writ_told = MESSAGE_TEXT, writ_constraint = CONSTRAINT_NAME;
  RAISE EXCEPTION USING ERRCODE = writ_state, MESSAGE = writ_told, CONSTRAINT = writ_constraint;
END $writ$;
REVOKE ALL ON FUNCTION ${name}() FROM PUBLIC;
ALTER FUNCTION ${name}() OWNER TO ${plan.owner};
CREATE TRIGGER writ_${verb.toLowerCase()} INSTEAD OF ${verb} ON ${qualified(plan.view)}
  FOR EACH ROW EXECUTE FUNCTION ${name}();`;
}

/** A view's name can be as long as a name may be. */
function functionName({ view }: ViewPlan, verb: string): string {
  const name = `${verb.toLowerCase()} ${view.name}`;
  if (Buffer.byteLength(name) <= MAXIMUM_NAME_BYTES) return name;
  const hash = createHash('sha256').update(view.name).digest('hex');
  return `${verb.toLowerCase()} ${hash.slice(0, 16)}`;
}

function insertBody(
  plan: ViewPlan,
  columns: readonly ViewColumn[],
  inserted: readonly ViewColumn[],
): string {
  const given = inserted.map(({ column }) => {
    const name = identifier(column.name);
    return `(${literal(name)}, NEW.${name} IS NOT NULL)`;
  });
  const into = literal(`INSERT INTO ${qualified(plan.base)} AS t `);
  // What is NULL is not named, so that the table's own defaults stand.
  return `${refuseMaskedForms(inserted, () => 'true')}
  SELECT string_agg(c.name, ', '), string_agg('($1).' || c.name, ', ') INTO writ_named, writ_values
    FROM (VALUES ${given.join(', ')}) AS c (name, given) WHERE c.given;
  ${withApplicationPath(plan)}
  EXECUTE ${into} || coalesce('(' || writ_named || ') VALUES (' || writ_values || ')', 'DEFAULT VALUES')
    || ${literal(` RETURNING ${keyColumns(plan)}`)} INTO writ_row USING NEW;
  GET DIAGNOSTICS writ_count = ROW_COUNT;
  ${WITH_OWN_PATH}
  IF writ_count = 0 THEN
    RETURN NULL;
  END IF;
  ${showRow(plan, columns)}`;
}

/** A masked column that is not changed is not named: its owner need not read what the view hides. */
function updateBody(
  plan: ViewPlan,
  columns: readonly ViewColumn[],
  updated: readonly ViewColumn[],
): string {
  const base = qualified(plan.base);
  const isChanged = (name: string) => `NOT (${isSame(`NEW.${name}`, `OLD.${name}`)})`;
  const sets = updated
    .filter(({ column }) => !column.generated)
    .map(({ column, rule }) => {
      const name = identifier(column.name);
      const set = literal(`${name} = ($1).${name}`);
      return rule ? `CASE WHEN ${isChanged(name)} THEN ${set} END` : set;
    });
  const row = isRow(plan, '($2)');
  const unchanged = columns
    .filter(({ rule }) => rule === undefined)
    .map(({ column: { name } }) => isSame(`t.${identifier(name)}`, `($2).${identifier(name)}`));
  const rest = ` WHERE ${[row, ...unchanged].join(' AND ')} RETURNING ${keyColumns(plan)}`;
  return `${refuseMaskedForms(updated, isChanged)}
  writ_named := concat_ws(', ', ${sets.join(', ')});
  IF writ_named = '' THEN
    RETURN NEW;
  END IF;
  ${withApplicationPath(plan)}
  EXECUTE ${literal(`UPDATE ${base} AS t SET `)} || writ_named || ${literal(rest)} INTO writ_row USING NEW, OLD;
  GET DIAGNOSTICS writ_count = ROW_COUNT;
  ${WITH_OWN_PATH}
  IF writ_count > 0 THEN
    ${showRow(plan, columns)}
  END IF;
  PERFORM FROM ${base} AS t WHERE ${isRow(plan, 'OLD')};
  IF FOUND THEN
    RAISE EXCEPTION 'the row was changed by another transaction: try again' USING ERRCODE = '40001';
  END IF;
  RETURN NULL;`;
}

const OWN_PATH = 'pg_catalog, pg_temp';
const WITH_OWN_PATH = `PERFORM set_config('search_path', '${OWN_PATH}', true);`;

/**
 * The table's own triggers may name things without their schema, as they do when the application
 * writes. Under this path the statement itself uses the server's own operators alone.
 */
function withApplicationPath({ schema }: ViewPlan): string {
  const path = [...new Set([schema, 'public'])].map(identifier).join(', ');
  return `PERFORM set_config('search_path', ${literal(`pg_catalog, ${path}, pg_temp`)}, true);`;
}

function keyColumns({ base }: ViewPlan): string {
  return base.key.map((name) => `t.${identifier(name)}`).join(', ');
}

function isRow({ base }: ViewPlan, other: string): string {
  return base.key
    .map((name) => `t.${identifier(name)} OPERATOR(pg_catalog.=) ${other}.${identifier(name)}`)
    .join(' AND ');
}

/** What RETURNING gives: the row that was written, as the view shows it. */
function showRow(plan: ViewPlan, columns: readonly ViewColumn[]): string {
  const shown = columns.map(({ expression }) => expression).join(', ');
  return `SELECT ${shown} INTO NEW FROM ${qualified(plan.base)} AS t WHERE ${isRow(plan, 'writ_row')};
  RETURN NEW;`;
}

/** As text: some types have no equality. */
function isSame(one: string, other: string): string {
  return `${one}::text IS NOT DISTINCT FROM ${other}::text`;
}

/**
 * A form with an asterisk that its own mask leaves as it is: nothing else looks like it. A year or a
 * range looks like any value, so that only the row's own form can be told.
 */
function refuseMaskedForms(
  written: readonly ViewColumn[],
  condition: (name: string) => string,
): string {
  return written
    .flatMap(({ column, rule }) => {
      const name = identifier(column.name);
      if (rule === undefined || rule.mask === Mask.NULL) return [];
      const form = maskValue(rule, `NEW.${name}`, column.type);
      if (form === undefined || rule.mask === Mask.YEAR || rule.mask === Mask.RANGE) return [];
      return [
        `  IF ${condition(name)} AND strpos(NEW.${name}::text, '*') > 0 AND ${isSame(`NEW.${name}`, form)} THEN
    RAISE EXCEPTION 'a masked value cannot be written to column %', ${literal(name)} USING ERRCODE = '42501';
  END IF;`,
      ];
    })
    .join('\n');
}
