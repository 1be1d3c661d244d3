import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { Fault } from '../../runtime/fault.ts';

const run = promisify(execFile);
const NAME = 'writ-demo';
const OTHERS_MAY_ENTER = 0o001;

/** An account that the demo's servers run as where `writ up` is root, since Postgres refuses root. */
export interface SystemUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/**
 * `writ-demo`, made if it is missing; undefined where this process is not root.
 * @param say told in one line that the account was made
 * @throws Fault STATE_UNUSABLE
 */
export async function demoUser(say: (line: string) => void): Promise<SystemUser | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const found = await lookUp();
  if (found !== undefined) return found;
  const args = [
    '--system',
    '--user-group',
    '--no-create-home',
    '--shell',
    '/usr/sbin/nologin',
    NAME,
  ];
  try {
    await run('useradd', args);
  } catch (cause) {
    const message = `as root the demo database needs the system user ${NAME}, and useradd failed`;
    throw new Fault('STATE_UNUSABLE', message, { cause });
  }
  say(`made the system user ${NAME}: Postgres refuses to run as root`);
  const made = await lookUp();
  if (made === undefined) throw new Fault('STATE_UNUSABLE', `the system user ${NAME} is missing`);
  return made;
}

async function lookUp(): Promise<SystemUser | undefined> {
  try {
    const [uid, gid] = await Promise.all([run('id', ['-u', NAME]), run('id', ['-g', NAME])]);
    return { name: NAME, uid: Number(uid.stdout), gid: Number(gid.stdout) };
  } catch {
    return undefined;
  }
}

/** Whether an account without rights of its own can reach `path`: every folder above lets others in. */
export async function othersCanReach(path: string): Promise<boolean> {
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    const found = await stat(folder).catch(() => undefined);
    if (found !== undefined && (found.mode & OTHERS_MAY_ENTER) === 0) return false;
    if (folder === dirname(folder)) return true;
  }
}
