/**
 * What `bench postgres` measures: one PostgreSQL 15 that asks for client certificates, reached directly,
 * through the gateway and through its peers, by the same certificate.
 */
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Closers } from '../../runtime/closers.ts';
import { startPostgres, type TestPostgres } from '../fixtures/postgres.ts';
import {
  applyDocuments,
  grantDocument,
  makeWorkload,
  type Workload,
} from '../fixtures/workload.ts';
import { type RunningUp, runProgram, runWrit } from '../fixtures/writ-up.ts';
import { startPgbouncer, startStunnel } from './postgres-peers.ts';

/** How a proxy reaches the database. */
export type Leg = 'plain' | 'tls';

export interface Target {
  readonly name: 'direct' | 'gateway' | 'pgbouncer' | 'stunnel';
  readonly port: number;
  readonly user: string;
  /** Of the proxy; undefined where there is none. */
  readonly pid: number | undefined;
  /** For libpq. */
  readonly conninfo: string;
}

export interface ClientFiles {
  readonly cert: string;
  readonly key: string;
  /** Verifies both the gateway and the database. */
  readonly ca: string;
}

export interface PostgresWorld extends AsyncDisposable {
  readonly files: ClientFiles;
  readonly gatewayPid: number;
  /**
   * Sets how the gateway reaches the database.
   * @returns direct first, then the proxies that are on this machine and reach it so
   */
  reach(leg: Leg): Promise<readonly Target[]>;
  /** Through the gateway, as one of several identities. */
  gatewayAs(identity: Workload): Promise<{ target: Target; files: ClientFiles }>;
  readonly identities: readonly Workload[];
}

export interface WorldOptions {
  /** Runs in the database before anything is granted. */
  readonly sql: string;
  readonly scale: string;
  readonly tables: readonly string[];
  /** Columns by table that only show masked. */
  readonly classified: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly identities: number;
}

/** Read by the database's and the peers' account. */
const READABLE = 0o755;
/** Name of the database and of the backend too. */
export const USER = 'bench';
/** Proves itself to the database by its client certificate. */
const DIRECT_USER = 'bench_direct';
const PASSWORD = 'bench-password';
const LOGIN_PASSWORD = 'gateway-login-password';

export async function startPostgresWorld(
  up: RunningUp,
  options: WorldOptions,
): Promise<PostgresWorld> {
  const closers = new Closers();
  try {
    return await start(up, options, closers);
  } catch (error) {
    await closers[Symbol.asyncDispose]();
    throw error;
  }
}

async function start(
  up: RunningUp,
  options: WorldOptions,
  closers: Closers,
): Promise<PostgresWorld> {
  const folder = await mkdtemp(join(tmpdir(), 'writ-bench-'));
  await chmod(folder, READABLE);
  closers.defer(() => rm(folder, { recursive: true, force: true }));
  const identities: Workload[] = [];
  for (let index = 0; index < options.identities; index += 1) {
    const workload = await makeWorkload(up, `bench-${index}`);
    identities.push(workload);
    closers.defer(async () => await workload[Symbol.asyncDispose]());
  }
  const postgres = await startDatabase(up, folder);
  closers.defer(async () => await postgres[Symbol.asyncDispose]());
  await fillDatabase(postgres, options);
  const place = { up, postgres, passwordFile: join(folder, 'login-password') };
  await declareBackend({ ...place, identities, options });
  const [first] = identities;
  if (first === undefined) throw new Error('no identity');
  const files = await clientFiles(first, folder, postgres.caFile);
  const peers = { folder, postgres, clientCa: up.json.bundle, user: USER, password: PASSWORD };
  const bouncers = {
    plain: await startPgbouncer({ ...peers, leg: 'plain' }),
    tls: await startPgbouncer({ ...peers, leg: 'tls' }),
  };
  const stunnel = await startStunnel(peers);
  for (const peer of [bouncers.plain, bouncers.tls, stunnel]) {
    if (peer !== undefined) closers.defer(async () => await peer[Symbol.asyncDispose]());
  }
  const [, gatewayPort = ''] = up.json.gateway.postgres.split(':');
  const target = (
    name: Target['name'],
    at: { port: number; pid: number | undefined },
    { own = files, user = USER } = {},
  ): Target => {
    const tls = `sslmode=verify-full sslcert=${own.cert} sslkey=${own.key} sslrootcert=${own.ca}`;
    const where = `host=localhost hostaddr=127.0.0.1 port=${at.port} dbname=${USER}`;
    return { name, ...at, user, conninfo: `${where} user=${user} ${tls}` };
  };
  const gateway = { port: Number(gatewayPort), pid: up.json.pids.gateway };
  return {
    files,
    gatewayPid: up.json.pids.gateway,
    identities,
    async gatewayAs(identity) {
      const own = await mkdtemp(join(folder, 'identity-'));
      const files = await clientFiles(identity, own, postgres.caFile);
      return { target: target('gateway', gateway, { own: files }), files };
    },
    async reach(leg) {
      await applyDocuments(up, [backendDocument(leg, place)]);
      const bouncer = bouncers[leg];
      const tunnel = leg === 'tls' ? undefined : stunnel;
      return [
        target('direct', { port: postgres.port, pid: undefined }, { user: DIRECT_USER }),
        target('gateway', gateway),
        ...(bouncer === undefined ? [] : [target('pgbouncer', bouncer)]),
        ...(tunnel === undefined ? [] : [target('stunnel', tunnel)]),
      ];
    },
    [Symbol.asyncDispose]: () => closers[Symbol.asyncDispose](),
  };
}

/** Asks who comes directly for a client certificate of the trust domain. */
async function startDatabase(up: RunningUp, folder: string): Promise<TestPostgres> {
  const ca = join(folder, 'client-ca.pem');
  await writeFile(ca, await readFile(up.json.bundle));
  const access = join(folder, 'pg_hba.conf');
  await writeFile(
    access,
    [
      `hostssl ${USER} ${DIRECT_USER} 127.0.0.1/32 trust clientcert=verify-ca`,
      // stunnel's clients log in by themselves, and without it they had their certificate.
      `hostnossl ${USER} ${USER} 127.0.0.1/32 trust`,
      'host all all 127.0.0.1/32 scram-sha-256',
      '',
    ].join('\n'),
  );
  return await startPostgres({
    version: 15,
    tls: true,
    settings: {
      ssl_ca_file: `'${ca}'`,
      hba_file: `'${access}'`,
      max_connections: '700',
      shared_buffers: '1GB',
    },
  });
}

async function fillDatabase(
  postgres: TestPostgres,
  { sql, scale }: Pick<WorldOptions, 'sql' | 'scale'>,
): Promise<void> {
  await postgres.exec(`create role ${USER} login password '${PASSWORD}'`);
  await postgres.exec(`create role ${DIRECT_USER} login`);
  await postgres.exec(`create database ${USER} owner ${USER}`);
  const args = ['-i', '-s', scale, '-q', '-h', '127.0.0.1', '-p', String(postgres.port)];
  const env = { ...process.env, PGPASSWORD: postgres.password };
  const filled = await runProgram('pgbench', [...args, '-U', 'postgres', USER], {
    env,
    timeoutMs: 120_000,
  });
  if (filled.status !== 0) throw new Error(`pgbench -i: ${filled.stderr}`);
  await postgres.exec(sql, USER);
  const readers = `${USER}, ${DIRECT_USER}`;
  await postgres.exec(`grant select on all tables in schema public to ${readers}`, USER);
  await postgres.exec('vacuum analyze', USER);
}

interface Place {
  readonly up: RunningUp;
  readonly postgres: TestPostgres;
  readonly passwordFile: string;
}

async function declareBackend({
  identities,
  options,
  ...place
}: Place & {
  readonly identities: readonly Workload[];
  readonly options: WorldOptions;
}): Promise<void> {
  const { up, postgres, passwordFile } = place;
  await writeFile(passwordFile, LOGIN_PASSWORD, { mode: 0o600 });
  const masks = [...new Set(Object.values(options.classified).flatMap(Object.values))];
  const rights = { select: [...options.tables], statements: ['read'] };
  await applyDocuments(up, [
    ...masks.map((mask) => ({ kind: 'ColumnClass', name: `bench-${mask}`, mask })),
    backendDocument('plain', place),
    ...(masks.length === 0 ? [] : [columnsDocument(options.classified)]),
    ...identities.map(({ spiffeId: identity }, index) =>
      grantDocument({ name: `bench-${index}`, identity, backend: USER, postgres: rights }),
    ),
  ]);
  await setUp(up, postgres);
  await postgres.exec(`alter role writ_gateway login password '${LOGIN_PASSWORD}'`);
}

function backendDocument(leg: Leg, { postgres, passwordFile }: Place): Record<string, unknown> {
  return {
    kind: 'Backend',
    name: USER,
    type: 'postgres',
    environment: 'test',
    on_stale: 'standard',
    postgres: {
      host: '127.0.0.1',
      port: postgres.port,
      database: USER,
      layout: 'front',
      login: { user: 'writ_gateway', password_file: passwordFile },
      ...(leg === 'tls' && { tls: { ca_file: postgres.caFile, server_name: 'localhost' } }),
    },
  };
}

function columnsDocument(classified: WorldOptions['classified']): Record<string, unknown> {
  const tables = Object.entries(classified).map(([table, columns]) => [
    table,
    Object.fromEntries(Object.entries(columns).map(([name, mask]) => [name, `bench-${mask}`])),
  ]);
  return { kind: 'Columns', name: 'bench', backend: USER, tables: Object.fromEntries(tables) };
}

async function setUp(up: RunningUp, postgres: TestPostgres): Promise<void> {
  const url = `postgresql://postgres@127.0.0.1:${postgres.port}/${USER}`;
  const { status, stdout, stderr } = await runWrit(['backend', 'setup', USER, '--url', url], {
    WRIT_ADMIN_SOCKET: up.json.server.admin_socket,
    PGPASSWORD: postgres.password,
  });
  if (status !== 0) throw new Error(`writ backend setup: ${stderr}`);
  await postgres.exec(stdout, USER);
}

async function clientFiles(
  identity: Workload,
  folder: string,
  databaseCa: string,
): Promise<ClientFiles> {
  const files = await identity.writeFiles(folder);
  const ca = join(folder, 'both.pem');
  await writeFile(ca, (await readFile(files.ca, 'utf8')) + (await readFile(databaseCa, 'utf8')));
  return { ...files, ca };
}
