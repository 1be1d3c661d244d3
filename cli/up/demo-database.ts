/** The embedded PostgreSQL of `writ up`: initialised once, then started with TLS on 127.0.0.1. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chown, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { makeServerCertificate } from '../../certs-dev/make-certs.ts';
import { parseTrustDomain } from '../../identity/spiffe-id.ts';
import { writeAtomic } from '../../runtime/atomic-file.ts';
import { systemClock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { Child, endingWithStdin } from './child.ts';
import { chooseDemoHome, giveHome } from './demo-home.ts';
import { installPostgres } from './postgres-native.ts';
import { SHOP_SQL } from './shop-sql.ts';
import type { StateDir } from './state-dir.ts';
import type { SystemUser } from './system-user.ts';

export interface DemoDatabase {
  /** Resolves when it is gone, whatever ended it. */
  readonly gone: Promise<void>;
  /** Why it is gone. */
  epitaph(): Fault;
  stop(): Promise<void>;
  kill(): void;
  readonly host: string;
  readonly port: number;
  /** Of the shop database, as the superuser. */
  readonly url: string;
  /** PEM of the authority that signed its server certificate. */
  readonly caFile: string;
  /** Process id of the postmaster itself. */
  readonly pid: number;
}

export interface DemoDatabaseOptions {
  readonly state: StateDir;
  readonly port: number;
  readonly user: SystemUser | undefined;
  readonly signal: AbortSignal;
  say(line: string): void;
}

const run = promisify(execFile);
const HOST = '127.0.0.1';
const SUPERUSER = 'postgres';
export const SHOP = 'shop';
const START_MS = 20_000;
/** How Postgres tells why it does not start. */
const FATAL = /FATAL: {2}(.+)$/;

/** @throws Fault STATE_UNUSABLE when it does not start; nothing is left running then */
export async function startDemoDatabase(options: DemoDatabaseOptions): Promise<DemoDatabase> {
  const { state, port, user } = options;
  const home = await chooseDemoHome('postgres', options);
  await giveHome(home, user);
  const bin = await installPostgres(join(home, 'native'));
  const password = await superuserPassword(state);
  const caFile = state.in('postgres-ca.pem');
  await initialise({ home, bin, user, password });
  await configure({ home, port, user, caFile });
  const child = new Child({
    name: 'postgres',
    // SIGINT is Postgres's fast shutdown.
    ...endingWithStdin('INT', [join(bin, 'postgres'), '-D', join(home, 'data')]),
    logFile: state.in('postgres.log'),
    cwd: '/',
    env: { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' },
    ...(user === undefined ? {} : { user: { uid: user.uid, gid: user.gid } }),
  });
  const urlOf = (database: string) =>
    `postgresql://${SUPERUSER}:${password}@${HOST}:${port}/${database}`;
  try {
    await untilAnswering(urlOf('postgres'), child, options.signal);
    await seed(urlOf('postgres'), urlOf(SHOP));
    const pid = Number((await readFile(join(home, 'data/postmaster.pid'), 'utf8')).split('\n')[0]);
    return {
      gone: child.gone,
      epitaph: () => child.epitaph(),
      stop: () => child.stop(),
      kill: () => child.kill(),
      host: HOST,
      port,
      url: urlOf(SHOP),
      caFile,
      pid,
    };
  } catch (error) {
    await child.stop();
    throw error;
  }
}

async function superuserPassword(state: StateDir): Promise<string> {
  const file = state.in('postgres-superuser');
  const found = await readFile(file, 'utf8').catch(() => '');
  if (found !== '') return found.trim();
  const password = randomBytes(24).toString('hex');
  await writeAtomic(file, Buffer.from(`${password}\n`), 0o600);
  return password;
}

interface InitialiseOptions {
  readonly home: string;
  readonly bin: string;
  readonly user: SystemUser | undefined;
  readonly password: string;
}

async function initialise({ home, bin, user, password }: InitialiseOptions): Promise<void> {
  const stamp = join(home, 'initialised');
  if ((await readFile(stamp, 'utf8').catch(() => '')) !== '') return;
  const data = join(home, 'data');
  await rm(data, { recursive: true, force: true });
  const passwordFile = join(home, 'password');
  await writeFile(passwordFile, `${password}\n`, { mode: 0o600 });
  if (user !== undefined) await chown(passwordFile, user.uid, user.gid);
  const args = ['-D', data, '-U', SUPERUSER, '-E', 'UTF8', '--locale=C', '--no-sync'];
  try {
    await run(join(bin, 'initdb'), [...args, '-A', 'scram-sha-256', '--pwfile', passwordFile], {
      cwd: '/',
      env: { PATH: process.env.PATH, LC_ALL: 'C' },
      ...(user === undefined ? {} : { uid: user.uid, gid: user.gid }),
    });
  } catch (cause) {
    const { stderr = '', message } = cause as { stderr?: string; message: string };
    const detail = (stderr === '' ? message : stderr).trim().split('\n')[0];
    throw new Fault('STATE_UNUSABLE', `the demo database cannot be initialised: ${detail}`, {
      cause,
    });
  } finally {
    await rm(passwordFile, { force: true });
  }
  await writeFile(stamp, `${new Date().toISOString()}\n`);
}

interface ConfigureOptions {
  readonly home: string;
  readonly port: number;
  readonly user: SystemUser | undefined;
  readonly caFile: string;
}

async function configure({ home, port, user, caFile }: ConfigureOptions): Promise<void> {
  const data = join(home, 'data');
  const { authority, certificate, key } = await makeServerCertificate({
    trustDomain: parseTrustDomain('postgres.demo'),
    dnsNames: ['localhost'],
    ipAddresses: [HOST],
  });
  await writeFile(caFile, authority);
  // A statement that fails would stand in the log as its client typed it.
  const settings = `listen_addresses = '${HOST}'
port = ${port}
unix_socket_directories = ''
max_connections = 200
shared_buffers = 64MB
password_encryption = 'scram-sha-256'
ssl = on
ssl_cert_file = 'server.crt'
ssl_key_file = 'server.key'
ssl_min_protocol_version = 'TLSv1.3'
log_min_messages = fatal
log_min_error_statement = panic
log_timezone = 'UTC'
timezone = 'UTC'
`;
  // The superuser may come without TLS, so that a test can use database_url as it stands.
  const access = `host all ${SUPERUSER} ${HOST}/32 scram-sha-256
hostssl all all ${HOST}/32 scram-sha-256
`;
  const files = [
    ['postgresql.auto.conf', settings, 0o600],
    ['pg_hba.conf', access, 0o600],
    ['server.crt', certificate, 0o600],
    ['server.key', key, 0o600],
  ] as const;
  for (const [name, text, mode] of files) {
    const file = join(data, name);
    await rm(file, { force: true });
    await writeFile(file, text, { mode });
    if (user !== undefined) await chown(file, user.uid, user.gid);
  }
}

async function untilAnswering(url: string, child: Child, signal: AbortSignal): Promise<void> {
  const end = systemClock.monotonicMs() + START_MS;
  for (;;) {
    if (!child.running) throw postgresFailed(child);
    try {
      await query(url, 'select 1');
      return;
    } catch (cause) {
      if (systemClock.monotonicMs() > end) {
        throw new Fault('STATE_UNUSABLE', 'postgres does not answer after 20 s', { cause });
      }
      await systemClock.wait(50, signal);
    }
  }
}

function postgresFailed(child: Child): Fault {
  const { message } = child.epitaph(FATAL);
  return new Fault('STATE_UNUSABLE', `the demo database does not start; ${message}`);
}

async function seed(adminUrl: string, shopUrl: string): Promise<void> {
  const found = await query(adminUrl, `select from pg_database where datname = '${SHOP}'`);
  if (found === 0) await query(adminUrl, `create database ${SHOP}`);
  const tables = await query(
    shopUrl,
    `select from pg_class where oid = to_regclass('public.orders')`,
  );
  if (tables === 0) await query(shopUrl, SHOP_SQL);
}

/** Number of rows. */
async function query(url: string, sql: string): Promise<number> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2000 });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query(sql)).rowCount ?? 0;
  } finally {
    await client.end();
  }
}
