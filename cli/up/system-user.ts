import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { Fault } from '../../runtime/fault.ts';

const run = promisify(execFile);
const OTHERS_MAY_ENTER = 0o001;

/** An account that one of the demo's servers runs as where `writ up` is root. */
export interface SystemUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  readonly shell: string;
}

/** What the account is made for. */
export interface SystemUserWish {
  readonly name: string;
  readonly shell: string;
  /** Ends the sentence `made the system user NAME: `. */
  readonly why: string;
  /** Told in one line that the account was made. */
  say(line: string): void;
}

/**
 * The account, made if it is missing; undefined where this process is not root. Whoever can log in to
 * one of the demo's accounts must not reach the files of the other: so the database has its own.
 * @throws Fault STATE_UNUSABLE
 */
export async function systemUser(wish: SystemUserWish): Promise<SystemUser | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const { name, shell, why, say } = wish;
  const found = await lookUp(name);
  if (found !== undefined) return found;
  try {
    const args = ['--system', '--user-group', '--no-create-home', '--shell', shell, name];
    await run('useradd', args);
  } catch (cause) {
    const message = `as root the demo needs the system user ${name}, and useradd failed`;
    throw new Fault('STATE_UNUSABLE', message, { cause });
  }
  say(`made the system user ${name}: ${why}`);
  const made = await lookUp(name);
  if (made === undefined) throw new Fault('STATE_UNUSABLE', `the system user ${name} is missing`);
  return made;
}

async function lookUp(name: string): Promise<SystemUser | undefined> {
  try {
    const { stdout } = await run('getent', ['passwd', name]);
    const [, , uid = '', gid = '', , home = '', shell = ''] = stdout.trim().split(':');
    return { name, uid: Number(uid), gid: Number(gid), home, shell };
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
