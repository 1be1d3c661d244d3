/** pgbouncer and stunnel before the benchmark's database, with the client's side as the gateway has it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chown, mkdir, readFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import type { TestPostgres } from '../fixtures/postgres.ts';
import { hasProgram } from '../fixtures/programs.ts';
import { unusedPort } from '../fixtures/unused-port.ts';

export interface Peer extends AsyncDisposable {
  readonly port: number;
  readonly pid: number;
}

export interface PeerOptions {
  readonly folder: string;
  readonly postgres: TestPostgres;
  /** PEM file of the authority of clients' certificates. */
  readonly clientCa: string;
  readonly user: string;
  readonly password: string;
}

const START_MS = 5000;

/** Session pooling: a client's connection keeps its server connection, as a gateway's must. */
export async function startPgbouncer(
  options: PeerOptions & { readonly leg: 'plain' | 'tls' },
): Promise<Peer | undefined> {
  if (!hasProgram('pgbouncer')) return undefined;
  const { postgres, user, password, leg } = options;
  const { folder, account, cert, key, ca } = await peerFolder(options, `pgbouncer-${leg}`);
  const port = await unusedPort();
  const users = join(folder, 'users.txt');
  await writeFile(users, `"${user}" "${password}"\n`);
  const config = join(folder, 'pgbouncer.ini');
  const serverTls =
    leg === 'tls'
      ? ['server_tls_sslmode = verify-full', `server_tls_ca_file = ${postgres.caFile}`]
      : ['server_tls_sslmode = disable'];
  await writeFile(
    config,
    [
      '[databases]',
      `${user} = host=${leg === 'tls' ? 'localhost' : '127.0.0.1'} port=${postgres.port} user=${user} password=${password}`,
      '[pgbouncer]',
      ...['listen_addr = 127.0.0.1', `listen_port = ${port}`, 'unix_socket_dir ='],
      ...['auth_type = trust', `auth_file = ${users}`],
      ...['pool_mode = session', 'max_client_conn = 500', 'default_pool_size = 100'],
      ...['client_tls_sslmode = verify-full', `client_tls_ca_file = ${ca}`],
      ...[`client_tls_cert_file = ${cert}`, `client_tls_key_file = ${key}`],
      ...['client_tls_protocols = tlsv1.3', ...serverTls],
      'ignore_startup_parameters = extra_float_digits,options',
      '',
    ].join('\n'),
  );
  return await startPeer('pgbouncer', ['-q', config], { port, account });
}

/** With its own reading of SSLRequest; its way to the database is plain. */
export async function startStunnel(options: PeerOptions): Promise<Peer | undefined> {
  if (!hasProgram('stunnel4')) return undefined;
  const { folder, account, cert, key, ca } = await peerFolder(options, 'stunnel');
  const port = await unusedPort();
  const config = join(folder, 'stunnel.conf');
  await writeFile(
    config,
    [
      ...['foreground = quiet', 'pid =', 'debug = err', 'socket = l:TCP_NODELAY=1'],
      ...['socket = r:TCP_NODELAY=1', '[postgres]', 'protocol = pgsql'],
      ...[`accept = 127.0.0.1:${port}`, `connect = 127.0.0.1:${options.postgres.port}`],
      ...[`cert = ${cert}`, `key = ${key}`, `CAfile = ${ca}`, 'verifyChain = yes'],
      'sslVersion = TLSv1.3',
      '',
    ].join('\n'),
  );
  return await startPeer('stunnel4', [config], { port, account });
}

/** pgbouncer does not run as root, so the peers run as the database does. */
async function peerFolder({ folder, postgres, clientCa }: PeerOptions, name: string) {
  const home = dirname(postgres.caFile);
  const own = join(folder, name);
  const account = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : undefined;
  await mkdir(own);
  const file = async (as: string, source: string, mode: number) => {
    const path = join(own, as);
    await writeFile(path, await readFile(source), { mode });
    if (account !== undefined) await chown(path, account.uid, account.gid);
    return path;
  };
  const cert = await file('server.pem', join(home, 'server.pem'), 0o644);
  const key = await file('server.key', join(home, 'server.key'), 0o600);
  const ca = await file('client-ca.pem', clientCa, 0o644);
  return { folder: own, account, cert, key, ca };
}

async function startPeer(
  program: string,
  args: readonly string[],
  { port, account }: { port: number; account: { uid: number; gid: number } | undefined },
): Promise<Peer> {
  const child = spawn(program, [...args], { stdio: ['ignore', 'ignore', 'pipe'], ...account });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = `${said}${text}`.slice(-2000);
  });
  const end = performance.now() + START_MS;
  while (!(await answers(port))) {
    if (child.exitCode !== null || performance.now() > end) {
      child.kill('SIGKILL');
      throw new Error(`${program} did not start: ${said}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return {
    port,
    pid: child.pid ?? 0,
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    },
  };
}

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
