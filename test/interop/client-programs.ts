/** Programs of people who use PostgreSQL, built where they must be, each printing one JSON document. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { PostgresVersion } from '../fixtures/postgres.ts';
import { interopPython } from '../fixtures/programs.ts';
import { runProgram } from '../fixtures/writ-up.ts';
import { connectionStrings, snippets } from './client-page.ts';
import type { Target } from './client-world.ts';

const HERE = import.meta.dirname;
const JDBC_VERSION = '42.7.14';
const DRIVER = `postgresql-${JDBC_VERSION}.jar`;
const BUILD_MS = 240_000;
const RUN_MS = 120_000;

export interface ClientProgram {
  readonly name: string;
  /** What the machine must have, as a shell finds it. */
  readonly needs: readonly string[];
  command(target: Target): Promise<readonly [string, ...string[]]>;
}

/** Runs it and reads its report. */
export async function reportOf(
  program: ClientProgram,
  target: Target,
): Promise<Record<string, unknown>> {
  const [file, ...args] = await program.command(target);
  const { status, stdout, stderr } = await runProgram(file, args, { timeoutMs: RUN_MS });
  assert.equal(status, 0, `${program.name}: ${stderr}`);
  return JSON.parse(stdout);
}

/** All but psql and its kin. */
export const CLIENT_PROGRAMS: readonly ClientProgram[] = [
  inNode('node-postgres', 'postgres-client.mjs'),
  inNode('Drizzle', 'drizzle-client.mjs'),
  inPython('psycopg, async and pool', 'psycopg_async_client.py'),
  inPython('asyncpg', 'asyncpg_client.py'),
  inPython('SQLAlchemy, by psycopg and asyncpg', 'sqlalchemy_client.py'),
  {
    name: 'pgx',
    needs: ['go'],
    command: async (target) => [await goProgram('pgx'), await urlOf('pgx', target)],
  },
  {
    name: 'JDBC',
    needs: ['javac', 'mvn', 'openssl'],
    command: async (target) => {
      if (target.cert !== undefined) await convertKey(target);
      return [...(await javaCommand()), await urlOf('JDBC', target)];
    },
  },
];

/** With key and certificate in one file, as some services keep them. */
export const JDBC_PKCS12: ClientProgram = {
  name: 'JDBC by PKCS#12',
  needs: ['javac', 'mvn', 'openssl'],
  command: async (target) => {
    await convertKey(target);
    const [, url = ''] = connectionStrings('JDBC', target, folderOf(target));
    return [...(await javaCommand()), url, 'masked'];
  },
};

/** As docs/clients.md does it. */
async function convertKey(target: Target): Promise<void> {
  const folder = folderOf(target);
  const commands = snippets('JDBC', target, folder).find(({ language }) => language === 'sh');
  await mustRun('bash', ['-euc', commands?.text ?? 'false'], folder);
}

function folderOf({ cert = '' }: Target): string {
  return dirname(cert);
}

function inNode(name: string, file: string): ClientProgram {
  return {
    name,
    needs: [],
    command: async (target) => [process.execPath, join(HERE, 'node', file), JSON.stringify(target)],
  };
}

function inPython(name: string, file: string): ClientProgram {
  return {
    name,
    needs: [],
    command: async (target) => [pythonFile(), join(HERE, 'python', file), JSON.stringify(target)],
  };
}

let python: ReturnType<typeof interopPython> | undefined;

export function pythonFile(): string {
  python ??= interopPython();
  if ('reason' in python) throw new Error(python.reason);
  return python.file;
}

/** Through the gateway as docs/clients.md has it. */
async function urlOf(heading: 'pgx' | 'JDBC', target: Target): Promise<string> {
  if (target.cert !== undefined) {
    const [url = ''] = connectionStrings(heading, target, folderOf(target));
    return url;
  }
  const { host, port, database, user, password = '', ca } = target;
  const tls = ca === undefined ? 'sslmode=disable' : `sslmode=verify-full&sslrootcert=${ca}`;
  const login = `user=${user}&password=${password}`;
  return `${heading === 'JDBC' ? 'jdbc:postgresql' : 'postgres'}://${host}:${port}/${database}?${login}&${tls}`;
}

const builds = new Map<string, Promise<string>>();

/** Built once in a process, gone when it ends. */
function built(name: string, build: (folder: string) => Promise<string>): Promise<string> {
  const before = builds.get(name);
  if (before !== undefined) return before;
  const made = mkdtemp(join(tmpdir(), 'writ-test-client-')).then((folder) => {
    process.once('exit', () => spawnSync('rm', ['-rf', folder]));
    return build(folder).catch(async (error: unknown) => {
      await rm(folder, { recursive: true, force: true });
      throw error;
    });
  });
  builds.set(name, made);
  return made;
}

/** A program of test/interop/go. */
export function goProgram(name: string): Promise<string> {
  return built(name, async (folder) => {
    const file = join(folder, name);
    await mustRun('go', ['build', '-o', file, `./${name}`], join(HERE, 'go'));
    return file;
  });
}

/** One compiler and a small collector: a JVM that starts fast. */
async function javaCommand(): Promise<readonly [string, ...string[]]> {
  const folder = await built('java', async (place) => {
    const artifact = `-Dartifact=org.postgresql:postgresql:${JDBC_VERSION}`;
    const copy = ['-q', '-B', 'dependency:copy', artifact, `-DoutputDirectory=${place}`];
    await mustRun('mvn', copy, place);
    const source = join(HERE, 'java/PostgresClient.java');
    await mustRun('javac', ['-d', place, '-cp', join(place, DRIVER), source], place);
    return place;
  });
  const flags = ['-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1'];
  return ['java', ...flags, '-cp', `${folder}:${join(folder, DRIVER)}`, 'PostgresClient'];
}

async function mustRun(file: string, args: readonly string[], cwd: string): Promise<void> {
  const { status, stderr, stdout } = await runProgram(file, args, { cwd, timeoutMs: BUILD_MS });
  if (status !== 0) throw new Error(`${file} ${args.join(' ')}: ${stderr}${stdout}`);
}

export interface PostgresTools {
  readonly bin: string;
  readonly env: NodeJS.ProcessEnv;
}

const tools = new Map<PostgresVersion, PostgresTools | undefined>();

/** psql, pg_dump, pg_restore and pgbench of a version; undefined if the machine has none. */
export function postgresTools(version: PostgresVersion): PostgresTools | undefined {
  if (!tools.has(version)) tools.set(version, version === 15 ? debianTools() : pythonsTools());
  return tools.get(version);
}

function debianTools(): PostgresTools | undefined {
  const bin = '/usr/lib/postgresql/15/bin';
  return existsSync(join(bin, 'pg_dump')) ? { bin, env: {} } : undefined;
}

/** Built without TLS, so they get the libpq of psycopg. */
function pythonsTools(): PostgresTools | undefined {
  const home = placeOfPackage('embedded_postgres');
  const driver = placeOfPackage('psycopg_binary');
  if (home === undefined || driver === undefined) return undefined;
  const libraries = `${driver}.libs`;
  const libpq = readdirSync(libraries).find((name) => name.startsWith('libpq-')) ?? '';
  return { bin: join(home, 'pginstall/bin'), env: { LD_PRELOAD: join(libraries, libpq) } };
}

/** Where Python has it; the packages of binaries are not imported by themselves. */
function placeOfPackage(name: string): string | undefined {
  const find = `from importlib.util import find_spec as f; print(f("${name}").submodule_search_locations[0])`;
  const { status, stdout } = spawnSync(pythonFile(), ['-c', find], { encoding: 'utf8' });
  return status === 0 ? stdout.trim() : undefined;
}
