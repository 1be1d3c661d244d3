import { BackendService, ResourceService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import type { PostgresBackend } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { backendDatabase, urlOfDatabase } from '../backend-database.ts';
import { databaseUrl } from '../database-url.ts';
import type { Flags, Verb, VerbIo } from '../verb.ts';

export const backendSetup: Verb = {
  path: ['backend', 'setup'],
  positionals: ['BACKEND'],
  summary: 'Print the SQL that a database administrator runs once, and after grants change',
  options: {
    url: { type: 'string' },
    database: { type: 'string' },
    undo: { type: 'boolean', default: false },
  },
  run,
};

async function run(flags: Flags, io: VerbIo, [backend = '']: readonly string[]): Promise<void> {
  const { readCatalog, withPostgres } = await import('../postgres-catalog.ts');
  const declared = await postgresOf(backend, io);
  const database = backendDatabase(flags, backend, declared);
  const url = urlOfDatabase(databaseUrl(flags, 'backend setup'), flags, database.name);
  const catalog = await withPostgres({ connectionString: url }, (client) =>
    readCatalog(client, declared.loginUser),
  ).catch((cause: Error) => {
    throw new Fault('BACKEND_FAILED', `cannot read the catalog: ${cause.message}`, { cause });
  });
  const plan = await io
    .admin(BackendService)
    .planBackendSetup({ backend, catalog }, { signal: io.signal });
  io.out(flags.undo === true ? plan.undoSql : plan.sql);
  for (const warning of plan.warnings) io.err(`warning: ${warning}`);
}

async function postgresOf(name: string, io: VerbIo): Promise<PostgresBackend> {
  const { resource } = await io
    .admin(ResourceService)
    .getResource({ kind: 'Backend', name }, { signal: io.signal });
  if (resource?.body.case !== 'backend' || resource.body.value.type.case !== 'postgres') {
    throw new Fault('NOT_FOUND', `no PostgreSQL backend ${JSON.stringify(name)}`);
  }
  return resource.body.value.type.value;
}
