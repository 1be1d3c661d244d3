import { open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Fault } from '../../runtime/fault.ts';
import { makeDirectory } from '../../runtime/make-directory.ts';

const VERSION = '1';
const FOLDERS = [
  ['server', 0o700],
  ['agent', 0o700],
  ['gateway', 0o700],
  ['run', 0o755],
] as const;
/** Unix socket paths hold 107 bytes; the longest below the state directory is this. */
const LONGEST_SOCKET = 'server/admin.sock';

/** The folder of `writ up`: made, of this version, and held by this process alone. */
export interface StateDir extends AsyncDisposable {
  readonly path: string;
  /** Whether nothing of an earlier run was there. */
  readonly fresh: boolean;
  in(...names: readonly string[]): string;
}

/** @throws Fault STATE_UNUSABLE in one line that tells what to do */
export async function openStateDir(path: string): Promise<StateDir> {
  if (Buffer.byteLength(join(path, LONGEST_SOCKET)) > 107) {
    throw unusable(`--state ${path}: the path is too long for a Unix socket; choose a shorter one`);
  }
  try {
    await makeDirectory(path, 0o755);
    const fresh = await checkVersion(path);
    for (const [name, mode] of FOLDERS) await makeDirectory(join(path, name), mode);
    const lock = join(path, 'lock');
    await takeLock(lock, path);
    return {
      path,
      fresh,
      in: (...names) => join(path, ...names),
      [Symbol.asyncDispose]: () => rm(lock, { force: true }),
    };
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    throw unusable(`${path} is not writable: ${(cause as Error).message}`, cause);
  }
}

async function checkVersion(path: string): Promise<boolean> {
  const file = join(path, 'version');
  const found = await readFile(file, 'utf8').catch(absent);
  if (found === undefined) {
    if (await isThere(join(path, 'server'))) {
      throw unusable(`${path} holds something else; choose an empty directory with --state`);
    }
    await writeFile(file, `${VERSION}\n`, { flag: 'wx' });
    return true;
  }
  if (found.trim() !== VERSION) {
    const has = JSON.stringify(found.trim().slice(0, 20));
    throw unusable(
      `${path} is of version ${has}, this program's is ${VERSION}; choose another --state`,
    );
  }
  return false;
}

/** The lock names its holder by pid and start time, so that a reused pid does not hold it. */
async function takeLock(lock: string, path: string): Promise<void> {
  const holder = await readFile(lock, 'utf8').catch(absent);
  if (holder !== undefined) {
    const [pid = '', started = ''] = holder.trim().split(' ');
    if (started !== '' && (await startTime(pid)) === started) {
      throw unusable(`${path} is in use by process ${pid}; stop it, or choose another --state`);
    }
    await rm(lock, { force: true });
  }
  const file = await open(lock, 'wx', 0o600);
  await file.writeFile(`${process.pid} ${await startTime(String(process.pid))}\n`);
  await file.close();
}

/** Field 22 of /proc/PID/stat; undefined if there is no such process. */
async function startTime(pid: string): Promise<string | undefined> {
  if (!/^\d{1,10}$/.test(pid)) return undefined;
  const text = await readFile(`/proc/${pid}/stat`, 'latin1').catch(absent);
  return text?.slice(text.lastIndexOf(')') + 2).split(' ')[19];
}

async function isThere(path: string): Promise<boolean> {
  return (await stat(path).catch(absent)) !== undefined;
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT' || error.code === 'ESRCH') return undefined;
  throw error;
}

function unusable(message: string, cause?: unknown): Fault {
  return new Fault('STATE_UNUSABLE', message, { cause });
}
