import { Fault } from '../../../runtime/fault.ts';

/**
 * Text in SQL. The plan is run by a superuser, so a name that breaks out of its quotes owns the
 * database: every name and value passes through here.
 */

/** An identifier, always quoted. */
export function identifier(name: string): string {
  return `"${checked(name).replaceAll('"', '""')}"`;
}

/** A relation's qualified name. */
export function qualified(table: { readonly schema: string; readonly name: string }): string {
  return `${identifier(table.schema)}.${identifier(table.name)}`;
}

/** A string constant that reads the same whatever standard_conforming_strings is. */
export function literal(text: string): string {
  const quoted = checked(text).replaceAll("'", "''");
  return quoted.includes('\\') ? `E'${quoted.replaceAll('\\', '\\\\')}'` : `'${quoted}'`;
}

/** Text for a `--` comment: one line, nothing that moves a cursor. */
export function comment(text: string): string {
  return `-- ${text.replaceAll(/[^\x20-\x7e]/g, '?')}`;
}

/** `$writ$` quotes the plan's own blocks, so that a name must not end one. */
function checked(text: string): string {
  if (text !== '' && !text.includes('\0') && !text.includes('$writ$')) return text;
  const shown = JSON.stringify(text.slice(0, 64));
  throw new Fault('FAILED_PRECONDITION', `the name ${shown} cannot stand in a setup plan`);
}
