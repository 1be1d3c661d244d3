/** The demo's SSH target: the machine's own OpenSSH server, which trusts the gateway's authority alone. */
import { execFile } from 'node:child_process';
import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { accessSync, constants } from 'node:fs';
import { chown, lstat, mkdir, readFile, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { opensshPrivateKey } from '../../identity/ssh/private-key.ts';
import { encodePublicKey, publicKeyLine } from '../../identity/ssh/public-key.ts';
import { SshService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { writeAtomic } from '../../runtime/atomic-file.ts';
import { systemClock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { VerbIo } from '../verb.ts';
import { Child, endingWithStdin } from './child.ts';
import { chooseDemoHome, openHome } from './demo-home.ts';
import { SSH_BACKEND } from './demo-resources.ts';
import type { StateDir } from './state-dir.ts';
import { type SystemUser, systemUser } from './system-user.ts';
import { needsTerminalGroup } from './terminal-group.ts';

/** Where the sshd will be, before it runs: what its backend's declaration needs. */
export interface DemoTarget {
  readonly program: string;
  /** Of this machine, that sessions log in to. */
  readonly account: string;
  readonly user: SystemUser | undefined;
}

export interface DemoSshd {
  /** Resolves when it is gone, whatever ended it. */
  readonly gone: Promise<void>;
  epitaph(): Fault;
  stop(): Promise<void>;
  kill(): void;
  /** Process id of the listening sshd. */
  readonly pid: number;
}

const HOST = '127.0.0.1';
const START_MS = 10_000;
const CERTIFICATE_SECONDS = 30 * 24 * 60 * 60;
/** Any of its lines may be the one that tells why it ends. */
const LAST_LINE = /^(?:fatal: |error: )?(\S.*?)\r?$/;

/** The machine's sshd and the account to log in to; undefined, said in one line, where there is none. */
export async function findDemoTarget(say: (line: string) => void): Promise<DemoTarget | undefined> {
  const program = sshdPath();
  if (program === undefined) {
    say('no sshd on this machine, so the SSH target is off: install openssh-server to have it');
    return undefined;
  }
  const user = await systemUser({
    name: 'writ-demo',
    shell: '/bin/sh',
    why: 'the account that the demo of SSH logs in to',
    say,
  });
  if (user !== undefined) {
    await allowLogin(user, say);
    await makeLoginHome(user.home, user);
  }
  return { program, account: user?.name ?? userInfo().username, user };
}

export interface DemoSshdOptions {
  readonly target: DemoTarget;
  readonly state: StateDir;
  readonly port: number;
  readonly io: VerbIo;
}

/** @throws Fault STATE_UNUSABLE when it does not start; nothing is left running then */
export async function startDemoSshd(options: DemoSshdOptions): Promise<DemoSshd> {
  const { target, state, port, io } = options;
  const { user } = target;
  const home = await chooseDemoHome('sshd', { state, user, say: (line) => io.err(line) });
  await openHome(home, user);
  const config = await configure(home, options);
  const pidFile = join(home, 'run', 'sshd.pid');
  await rm(pidFile, { force: true });
  const child = new Child({
    name: 'sshd',
    ...endingWithStdin('TERM', [...(await asUser(user)), target.program, '-D', '-e', '-f', config]),
    logFile: state.in('sshd.log'),
    cwd: '/',
    env: { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' },
  });
  try {
    await untilGreeting(port, child, io.signal);
    const pid = Number((await readFile(pidFile, 'utf8')).trim());
    return {
      gone: child.gone,
      epitaph: () => child.epitaph(LAST_LINE),
      stop: () => child.stop(),
      kill: () => child.kill(),
      pid,
    };
  } catch (error) {
    await child.stop();
    throw error;
  }
}

/** The command prefix that makes a program of root the user's. */
async function asUser(user: SystemUser | undefined): Promise<string[]> {
  if (user === undefined) return [];
  const mounts = await readFile('/proc/self/mounts', 'utf8');
  const groups = needsTerminalGroup(mounts) ? '--groups=tty' : '--clear-groups';
  return ['setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, groups, '--'];
}

function sshdPath(): string | undefined {
  const folders = ['/usr/sbin', '/usr/local/sbin', ...(process.env.PATH ?? '').split(':')];
  return folders
    .filter((folder) => folder.startsWith('/'))
    .map((folder) => join(folder, 'sshd'))
    .find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** An earlier version made the account for Postgres alone, without a shell. */
async function allowLogin(user: SystemUser, say: (line: string) => void): Promise<void> {
  if (!/\/(nologin|false)$/.test(user.shell)) return;
  await promisify(execFile)('usermod', ['--shell', '/bin/sh', user.name]);
  say(`gave the system user ${user.name} a shell: the demo of SSH logs in to it`);
}

/** sshd complains to the client of a home that is not there. */
async function makeLoginHome(home: string, user: SystemUser): Promise<void> {
  if ((await lstat(home).catch(() => undefined)) !== undefined) return;
  await mkdir(home, { mode: 0o700 });
  await chown(home, user.uid, user.gid);
}

/** Writes the key, its certificate and sshd_config; returns the path of the last. */
async function configure(home: string, options: DemoSshdOptions): Promise<string> {
  const { target, port, io } = options;
  const key = await hostKey(join(home, 'host-key.pem'));
  const publicKey = encodePublicKey(key);
  const ssh = io.admin(SshService);
  const authorities = await ssh.listSshAuthorities({}, { signal: io.signal });
  const request = { backend: SSH_BACKEND, publicKey, ttlSeconds: CERTIFICATE_SECONDS };
  const signed = await ssh.signHostCertificate(request, { signal: io.signal });
  const principals = signed.principals[target.account]?.principals ?? [];
  const write = async (name: string, lines: readonly string[], mode = 0o644) => {
    const file = join(home, name);
    await writeAtomic(file, Buffer.from(lines.map((line) => `${line}\n`).join('')), mode);
    return file;
  };
  const give = async (path: string) => {
    if (target.user !== undefined) await chown(path, target.user.uid, target.user.gid);
  };
  const run = join(home, 'run');
  await mkdir(run, { recursive: true, mode: 0o700 });
  await give(run);
  const keyFile = await write('ssh_host_ed25519_key', [opensshPrivateKey(key).trimEnd()], 0o600);
  await give(keyFile);
  const certificate = await write('ssh_host_ed25519_key-cert.pub', [
    publicKeyLine(signed.certificate, SSH_BACKEND),
  ]);
  const trusted = await write(
    'gateway_ca.pub',
    authorities.gateway.map((blob) => publicKeyLine(blob, 'writ gateway')),
  );
  const allowed = await write('principals', principals);
  const settings = `ListenAddress ${HOST}:${port}
HostKey ${keyFile}
HostCertificate ${certificate}
PidFile ${join(run, 'sshd.pid')}
LogLevel VERBOSE

# Who logs in shows a certificate of Writ's gateways for this very backend and login.
TrustedUserCAKeys ${trusted}
AuthorizedPrincipalsFile ${allowed}
AuthorizedKeysFile none
AuthenticationMethods publickey
AllowUsers ${target.account}
# The state directory may lie below a folder that everybody writes to, /tmp say.
StrictModes no

DisableForwarding yes
PermitUserRC no
PrintMotd no
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp`;
  return await write('sshd_config', [settings]);
}

/** Made once: clients that pin it know the target again. */
async function hostKey(file: string): Promise<KeyObject> {
  const found = await readFile(file, 'utf8').catch(() => '');
  if (found !== '') return createPrivateKey(found);
  const { privateKey } = generateKeyPairSync('ed25519');
  const pem = privateKey.export({ format: 'pem', type: 'pkcs8' });
  await writeAtomic(file, Buffer.from(pem), 0o600);
  return privateKey;
}

async function untilGreeting(port: number, child: Child, signal: AbortSignal): Promise<void> {
  const end = systemClock.monotonicMs() + START_MS;
  while (systemClock.monotonicMs() < end) {
    if (!child.running) throw child.epitaph(LAST_LINE);
    if (await greets(port)) return;
    await systemClock.wait(30, signal);
  }
  throw new Fault('STATE_UNUSABLE', `sshd does not answer on ${HOST}:${port}`);
}

function greets(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: HOST, port });
    socket.once('data', (data) => {
      resolve(data.toString('latin1').startsWith('SSH-2.0-'));
      socket.destroy();
    });
    socket.once('error', () => resolve(false));
    socket.once('close', () => resolve(false));
    socket.setTimeout(2000, () => socket.destroy());
  });
}
