import { ResourceService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { databaseUrl } from '../database-url.ts';
import type { Scan } from '../postgres-scan.ts';
import { printable } from '../table.ts';
import type { Flags, Verb, VerbIo } from '../verb.ts';

export const backendScan: Verb = {
  path: ['backend', 'scan'],
  positionals: ['BACKEND'],
  summary: 'Propose classes for columns, from their names, comments and a sample; shows no value',
  options: {
    url: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
  run,
};

async function run(flags: Flags, io: VerbIo, [backend = '']: readonly string[]): Promise<void> {
  const url = databaseUrl(flags, 'backend scan');
  const { declaredBackend } = await import('../postgres-check-subject.ts');
  const { classifiedNames, proposeClasses, yamlOf } = await import('../postgres-documents.ts');
  const { resources } = await io.admin(ResourceService).listResources({}, { signal: io.signal });
  declaredBackend(backend, resources);
  const scan = await scanDatabase(url, classifiedNames(backend, resources));
  for (const warning of scan.warnings) io.err(`warning: ${printable(warning)}`);
  const documents = proposeClasses({ backend, columns: scan.columns, resources });
  if (flags.json === true) {
    io.out(JSON.stringify({ found: scan.columns, known: scan.known, documents }, undefined, 2));
    return;
  }
  for (const line of foundLines(scan)) io.out(`# ${line}`);
  if (documents.length > 0) io.out(yamlOf(documents).trimEnd());
}

/** @throws Fault BACKEND_FAILED */
export async function scanDatabase(url: string, known: ReadonlySet<string>): Promise<Scan> {
  const { withPostgres } = await import('../postgres-catalog.ts');
  const { scanPostgres } = await import('../postgres-scan.ts');
  return withPostgres({ connectionString: url }, (client) => scanPostgres(client, known)).catch(
    (cause: Error) => {
      throw new Fault('BACKEND_FAILED', `cannot scan the database: ${cause.message}`, { cause });
    },
  );
}

/** One line a column, for people. */
export function foundLines({ columns, tables, known }: Scan): string[] {
  const lines = columns.map(({ table, column, type, className, by, example }) => {
    const shown = example === undefined ? '' : `, like ${example}`;
    return printable(`${table}.${column} (${type}): ${className}, by its ${by}${shown}`);
  });
  return [
    ...lines,
    `${columns.length} columns found in ${tables.length} tables; ${known} have a class already`,
  ];
}
