import { chmod, writeFile } from 'node:fs/promises';
import { GatewayRegistryService, ResourceService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { backendDatabase, urlOfDatabase } from '../backend-database.ts';
import { checkServerNames } from '../check-server-names.ts';
import { databaseUrl } from '../database-url.ts';
import type { DeclaredBackend } from '../postgres-check-subject.ts';
import { bySeverity, type Finding } from '../postgres-finding.ts';
import { printable } from '../table.ts';
import { ExitStatus, type Flags, textFlag, type Verb, type VerbIo } from '../verb.ts';

export const backendCheck: Verb = {
  path: ['backend', 'check'],
  positionals: ['BACKEND'],
  summary:
    'Name all that undoes the protection of a database; exit status 1 if anything is critical',
  options: {
    url: { type: 'string' },
    database: { type: 'string' },
    repairs: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
  run,
};

async function run(flags: Flags, io: VerbIo, [backend = '']: readonly string[]): Promise<void> {
  const { withPostgres } = await import('../postgres-catalog.ts');
  const { checkPostgres } = await import('../postgres-check.ts');
  const { declaredBackend } = await import('../postgres-check-subject.ts');
  const { resources } = await io.admin(ResourceService).listResources({}, { signal: io.signal });
  const declared = declaredBackend(backend, resources, (one) =>
    backendDatabase(flags, backend, one),
  );
  const url = urlOfDatabase(databaseUrl(flags, 'backend check'), flags, declared.database);
  const found = await withPostgres({ connectionString: url }, (client) =>
    checkPostgres(client, declared),
  ).catch((cause: Error) => {
    throw new Fault('BACKEND_FAILED', `cannot check the database: ${cause.message}`, { cause });
  });
  const findings = bySeverity([...found, ...(await namesNotProved(backend, declared, io))]);
  const repairs = textFlag(flags, 'repairs');
  if (repairs !== undefined) await writeRepairs(repairs, backend, findings, io);
  print(findings, flags.json === true, io);
  if (findings.some(({ severity }) => severity === 'critical')) throw new ExitStatus(1);
}

async function namesNotProved(
  backend: string,
  { serverNames }: DeclaredBackend,
  io: VerbIo,
): Promise<Finding[]> {
  if (serverNames.length === 0) return [];
  const { gateways } = await io
    .admin(GatewayRegistryService)
    .listGateways({}, { signal: io.signal });
  return checkServerNames(backend, serverNames, gateways);
}

async function writeRepairs(
  file: string,
  backend: string,
  findings: readonly Finding[],
  io: VerbIo,
): Promise<void> {
  const { repairScripts } = await import('../postgres-finding.ts');
  const { repair, undo } = repairScripts(backend, findings);
  for (const [name, content] of [
    [file, repair],
    [`${file}.undo`, undo],
  ] as const) {
    await writeFile(name, content, { mode: 0o600 }).catch((cause: Error) => {
      throw new Fault('USAGE', `cannot write ${name}: ${cause.message}`, { cause });
    });
    await chmod(name, 0o600);
  }
  io.err(`repairs in ${file}, the way back in ${file}.undo; neither has been run`);
}

function print(findings: readonly Finding[], json: boolean, io: VerbIo): void {
  if (json) {
    io.out(JSON.stringify(findings, undefined, 2));
    return;
  }
  const red = process.stdout.isTTY === true && process.env.NO_COLOR === undefined;
  for (const { severity, check, subject, problem, repair } of findings) {
    const mark = severity === 'critical' && red ? `\x1b[31m${severity}\x1b[0m` : severity;
    io.out(`${mark} [${check}] ${printable(subject)}: ${printable(problem)}`);
    if (repair !== undefined) io.out(`  repair loses: ${printable(repair.loses)}`);
  }
  const count = (severity: Finding['severity']) =>
    findings.filter((one) => one.severity === severity).length;
  io.out(`${count('critical')} critical, ${count('warning')} warnings, ${count('note')} notes`);
}
