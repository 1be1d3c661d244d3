import { readFileSync, statSync } from 'node:fs';
import { isIP } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import { Fault } from '../../../runtime/fault.ts';

/** Where a PostgreSQL is and how to log in. */
export interface PostgresTarget {
  /** A name, an address, or the directory of a Unix socket. */
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
  /** False on this machine alone. */
  readonly ssl: ConnectionOptions | false;
  /** libpq's `options`, e.g. `-c search_path=writ`. */
  readonly options: string;
}

const MAXIMUM_BYTES = 4096;
const OTHERS = 0o077;
const PARAMETERS: ReadonlySet<string> = new Set(['sslmode', 'sslrootcert', 'options', 'host']);
const LOCAL_HOSTS: ReadonlySet<string> = new Set(['localhost', '127.0.0.1', '::1']);

/**
 * Reads the URL of a store from a file that only its owner reads, because it holds a password.
 * @throws Fault CONFIG_INVALID; the message never shows the URL
 */
export function readPostgresUrl(file: string): PostgresTarget {
  const text = readSecret(file);
  try {
    return parsePostgresUrl(text);
  } catch (error) {
    if (error instanceof Fault) throw new Fault(error.code, `${file}: ${error.message}`);
    throw error;
  }
}

/**
 * A `postgres://user:password@host:port/database` URL; known parameters are libpq's `sslmode`
 * (verify-full, or disable for this machine), `sslrootcert`, `options` and `host` (a socket's directory).
 * @throws Fault CONFIG_INVALID
 */
export function parsePostgresUrl(text: string): PostgresTarget {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['postgres:', 'postgresql:'].includes(url.protocol))
    throw invalid('write a URL as postgres://user:password@host:5432/database?sslmode=verify-full');
  const unknown = [...url.searchParams.keys()].find((name) => !PARAMETERS.has(name));
  if (unknown !== undefined)
    throw invalid(`the URL's parameter ${JSON.stringify(unknown.slice(0, 40))} is not known`);
  const host = url.searchParams.get('host') ?? url.hostname.replace(/^\[(.*)\]$/, '$1');
  const user = decoded(url.username);
  const database = decoded(url.pathname.slice(1));
  if (host === '' || user === '' || database === '')
    throw invalid('the URL needs a user, a host and a database');
  return {
    ...{ host, user, database },
    port: url.port === '' ? 5432 : Number(url.port),
    password: decoded(url.password),
    ssl: tlsOptions(host, url.searchParams),
    options: url.searchParams.get('options') ?? '',
  };
}

function tlsOptions(host: string, parameters: URLSearchParams): ConnectionOptions | false {
  const isLocal = host.startsWith('/') || LOCAL_HOSTS.has(host);
  const mode = parameters.get('sslmode') ?? (isLocal ? 'disable' : '');
  if (mode === 'disable' && isLocal) return false;
  if (mode !== 'verify-full')
    throw invalid('the URL needs sslmode=verify-full: the store is not on this machine');
  const file = parameters.get('sslrootcert');
  return {
    ...(file !== null && { ca: readCertificates(file) }),
    ...(isIP(host) === 0 && { servername: host }),
    minVersion: 'TLSv1.2',
    rejectUnauthorized: true,
  };
}

function readCertificates(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw invalid(`sslrootcert ${file} cannot be read: ${codeOf(error)}`);
  }
}

function readSecret(file: string): string {
  try {
    const { mode, size } = statSync(file);
    if ((mode & OTHERS) !== 0)
      throw invalid(`${file} can be read by others: its mode must be 0600`);
    if (size > MAXIMUM_BYTES) throw invalid(`${file} is longer than ${MAXIMUM_BYTES} bytes`);
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    if (error instanceof Fault) throw error;
    throw invalid(`${file} cannot be read: ${codeOf(error)}`);
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid('the URL has a malformed % in it');
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
}

function invalid(message: string): Fault {
  return new Fault('CONFIG_INVALID', message);
}
