import { access, constants, mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type pg from 'pg';
import {
  BackendService,
  IdentityService,
  ResourceService,
} from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import type { Resource } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { databaseUrl } from '../database-url.ts';
import { printable } from '../table.ts';
import { type Flags, textFlag, type Verb, type VerbIo } from '../verb.ts';
import { foundLines, scanDatabase } from './backend-scan.ts';

export const backendAdd: Verb = {
  path: ['backend', 'add'],
  positionals: [],
  summary:
    'Scan a database, write the documents and the SQL that put Writ before it; apply on demand',
  options: {
    url: { type: 'string' },
    name: { type: 'string' },
    identity: { type: 'string' },
    owner: { type: 'string' },
    environment: { type: 'string', default: 'production' },
    'password-file': { type: 'string' },
    'ca-file': { type: 'string' },
    'server-name': { type: 'string' },
    out: { type: 'string' },
    apply: { type: 'boolean', default: false },
  },
  run,
};

const LOGIN = 'writ_gateway';
const MOST_TURNS = 5;
const RETRY_MS = 500;
const GRANT_LIFE_MS = 90 * 24 * 60 * 60 * 1000;

async function run(flags: Flags, io: VerbIo): Promise<void> {
  const url = databaseUrl(flags, 'backend add');
  const name = textFlag(flags, 'name') ?? nameOf(url);
  const { resources } = await io.admin(ResourceService).listResources({}, { signal: io.signal });
  if (resources.some(({ body }) => body.case === 'backend' && body.value.name === name)) {
    throw new Fault('USAGE', `backend ${name} is declared already: choose another --name`);
  }
  const passwordFile = resolve(textFlag(flags, 'password-file') ?? `/etc/writ/${name}.password`);
  const { scan, yaml } = await documents({ flags, io, url, name, passwordFile, resources });
  const files = [{ name: 'access.yaml', content: yaml }];
  const { readCatalog, withPostgres } = await import('../postgres-catalog.ts');
  const config = { connectionString: url };
  const catalog = await withPostgres(config, (client) => readCatalog(client, LOGIN)).catch(failed);
  const plan = await io
    .admin(BackendService)
    .planBackendSetup({ backend: name, catalog, files }, { signal: io.signal });
  const folder = textFlag(flags, 'out') ?? `writ-${name}`;
  await writeAll(folder, { 'access.yaml': yaml, 'setup.sql': plan.sql, 'undo.sql': plan.undoSql });
  for (const line of foundLines(scan)) io.out(line);
  for (const warning of [...scan.warnings, ...plan.warnings])
    io.err(`warning: ${printable(warning)}`);
  io.out(`${folder}/access.yaml, setup.sql and undo.sql are written`);
  if (flags.apply !== true) {
    io.out('Nothing has been applied. Read them, then run this again with --apply.');
    return;
  }
  if (catalog.loginExists === true) await requireFile(passwordFile);
  const { ensureLoginPassword } = await import('../up/demo-dba.ts');
  const password = await ensureLoginPassword(passwordFile).catch((cause: Error) => {
    throw new Fault('USAGE', `cannot write ${passwordFile}: ${cause.message}`, { cause });
  });
  await withPostgres(config, (client) => setUp(client, plan.sql, password, io)).catch(failed);
  await io.admin(ResourceService).apply({ files }, { signal: io.signal });
  io.out(`backend ${name} is declared and set up; the gateway's password is in ${passwordFile}`);
}

/** A new password for a login that is there would lock the gateway out of its other databases. */
async function requireFile(file: string): Promise<void> {
  await access(file, constants.R_OK).catch((cause: Error) => {
    const message = `${LOGIN} is there already: name the file with its password by --password-file`;
    throw new Fault('USAGE', message, { cause });
  });
}

interface DocumentsRequest {
  readonly flags: Flags;
  readonly io: VerbIo;
  readonly url: string;
  readonly name: string;
  readonly passwordFile: string;
  readonly resources: readonly Resource[];
}

async function documents({ flags, io, url, name, passwordFile, resources }: DocumentsRequest) {
  const { backendDocument, grantDocument, proposeClasses, yamlOf } = await import(
    '../postgres-documents.ts'
  );
  const identity = textFlag(flags, 'identity');
  const owner = identity === undefined ? '' : await ownerOf(identity, flags, io);
  const scan = await scanDatabase(url, new Set());
  const parsed = new URL(url);
  const caFile = textFlag(flags, 'ca-file') ?? parsed.searchParams.get('sslrootcert') ?? undefined;
  const serverName = textFlag(flags, 'server-name');
  const backend = backendDocument({
    name,
    environment: textFlag(flags, 'environment') ?? '',
    url: parsed,
    passwordFile,
    ...(caFile === undefined ? {} : { caFile: resolve(caFile) }),
    ...(serverName === undefined ? {} : { serverName }),
  });
  const classes = proposeClasses({ backend: name, columns: scan.columns, resources });
  const expiresAt = new Date(systemClock.now().getTime() + GRANT_LIFE_MS);
  const { tables } = scan;
  const grants =
    identity === undefined || tables.length === 0
      ? []
      : [grantDocument({ backend: name, identity, owner, expiresAt, tables })];
  return { scan, yaml: yamlOf([backend, ...classes, ...grants]) };
}

/** A grant has an owner: who owns the identity, unless told otherwise. */
async function ownerOf(identity: string, flags: Flags, io: VerbIo): Promise<string> {
  const told = textFlag(flags, 'owner');
  if (told !== undefined) return told;
  const record = await io
    .admin(IdentityService)
    .getIdentity({ spiffeId: identity }, { signal: io.signal })
    .catch(() => undefined);
  if (record?.identity !== undefined) return record.identity.owner;
  throw new Fault(
    'USAGE',
    `${printable(identity)} has no record: name the grant's owner with --owner`,
  );
}

/** As the documents write names of backends. */
function nameOf(url: string): string {
  const database = decodeURIComponent(new URL(url).pathname.slice(1)).toLowerCase();
  const name = database.replaceAll(/[^a-z0-9-]+/g, '-').replaceAll(/^-+|-+$/g, '');
  if (name === '') throw new Fault('USAGE', 'backend add: name the database in --url');
  return name.slice(0, 63);
}

async function writeAll(folder: string, files: Readonly<Record<string, string>>): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
    for (const [file, content] of Object.entries(files)) {
      await writeFile(join(folder, file), content, { mode: 0o600 });
    }
  } catch (cause) {
    throw new Fault('USAGE', `cannot write to ${folder}: ${(cause as Error).message}`, { cause });
  }
}

/** The password is in no log of the server, unless an extension writes one of its own. */
async function setUp(client: pg.Client, sql: string, password: string, io: VerbIo): Promise<void> {
  const { escapeLiteral } = (await import('pg')).default;
  await patientlyRun(client, sql, io);
  await client.query('set log_min_error_statement = panic; set log_statement = none');
  await client.query('set log_min_duration_statement = -1');
  const sets = `alter role ${LOGIN} login password ${escapeLiteral(password)}`;
  await patientlyRun(client, sets, io);
}

/** Roles are the cluster's: the setup of another database may touch them at the same moment. */
async function patientlyRun(client: pg.Client, sql: string, io: VerbIo): Promise<void> {
  for (let turn = 1; ; turn += 1) {
    try {
      await client.query(sql);
      return;
    } catch (error) {
      const isRace = (error as Error).message === 'tuple concurrently updated';
      if (!isRace || turn === MOST_TURNS) throw error;
      await client.query('rollback');
      await systemClock.wait(RETRY_MS, io.signal);
    }
  }
}

function failed(cause: Error): never {
  throw new Fault('BACKEND_FAILED', `the database refused: ${cause.message}`, { cause });
}
