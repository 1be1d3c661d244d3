/** What `writ backend check` says of a database. */

export type Severity = 'critical' | 'warning' | 'note';

export interface Finding {
  readonly severity: Severity;
  /** What kind of thing it is, in kebab case; stable, for scripts. */
  readonly check: string;
  /** The role, table, function or setting it is about. */
  readonly subject: string;
  readonly problem: string;
  readonly repair?: Repair;
}

export interface Repair {
  /** Statements, each ending in a semicolon. */
  readonly sql: readonly string[];
  /** Take back `sql`, in this order. */
  readonly undo: readonly string[];
  /** Who can no longer do what once it is applied. */
  readonly loses: string;
}

const ORDER: readonly Severity[] = ['critical', 'warning', 'note'];

export function bySeverity(findings: readonly Finding[]): readonly Finding[] {
  return ORDER.flatMap((severity) => findings.filter((one) => one.severity === severity));
}

export interface RepairScripts {
  readonly repair: string;
  readonly undo: string;
}

/** All repairs as two scripts for a database administrator to read, and to run with psql. */
export function repairScripts(backend: string, findings: readonly Finding[]): RepairScripts {
  const seen = new Set<string>();
  const repair: string[] = [];
  const undo: string[] = [];
  for (const { subject, problem, repair: found } of findings) {
    const fresh = found?.sql.filter((line) => !seen.has(line)) ?? [];
    if (found === undefined || fresh.length === 0) continue;
    for (const line of fresh) seen.add(line);
    repair.push('', comment(`${subject}: ${problem}`), comment(`Loses: ${found.loses}`), ...fresh);
    undo.unshift('', comment(subject), ...found.undo.filter((line) => !seen.has(`undo ${line}`)));
    for (const line of found.undo) seen.add(`undo ${line}`);
  }
  return {
    repair: script(`Repairs what writ backend check found in backend ${backend}.`, repair),
    undo: script(`Takes back the repairs of backend ${backend}.`, undo),
  };
}

function script(purpose: string, body: readonly string[]): string {
  const head = [
    comment(purpose),
    comment('Read it, take out what you do not want, run it: psql -v ON_ERROR_STOP=1 -f FILE'),
    'BEGIN;',
    "SET LOCAL lock_timeout = '10s';",
  ];
  return [...head, ...body, '', 'COMMIT;', ''].join('\n');
}

/** One line, whatever the names of the database hold. */
function comment(text: string): string {
  return `-- ${text.replaceAll(/[^\x20-\x7e]/g, '?')}`;
}
