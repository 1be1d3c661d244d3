import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { StateDir } from './state-dir.ts';
import { othersCanReach, type SystemUser } from './system-user.ts';

const run = promisify(execFile);
/** Root's own, so that nobody can put a link where root will write. */
const ELSEWHERE = '/var/lib/writ-demo';

export interface DemoHomeOptions {
  readonly state: StateDir;
  /** Who must get there; undefined: this process's own user. */
  readonly user: SystemUser | undefined;
  say(line: string): void;
}

/**
 * The folder of one of the demo's servers: below the state directory, unless that lies where the system
 * user cannot go (a 0700 folder of root); then below /var/lib/writ-demo, named after the state directory.
 */
export async function chooseDemoHome(
  name: 'postgres' | 'sshd',
  { state, user, say }: DemoHomeOptions,
): Promise<string> {
  const home = state.in(name);
  if (user === undefined || (await othersCanReach(home))) {
    await mkdir(home, { recursive: true, mode: 0o700 });
    return home;
  }
  const hash = createHash('sha256').update(state.path).digest('hex').slice(0, 16);
  const elsewhere = join(ELSEWHERE, name === 'postgres' ? hash : `${hash}-${name}`);
  if (state.fresh) await rm(elsewhere, { recursive: true, force: true });
  say(`${user.name} cannot reach ${state.path}: the demo's ${name} stands in ${elsewhere}`);
  await mkdir(ELSEWHERE, { recursive: true, mode: 0o755 });
  await mkdir(elsewhere, { recursive: true, mode: 0o700 });
  return elsewhere;
}

/** Gives the folder and all below it to the user, whoever owned it before; never what a link points at. */
export async function giveHome(home: string, user: SystemUser | undefined): Promise<void> {
  if (user === undefined || (await stat(home)).uid === user.uid) return;
  await run('chown', ['-hR', `${user.uid}:${user.gid}`, home]);
}

/** Lets the user enter a folder that stays root's. */
export async function openHome(home: string, user: SystemUser | undefined): Promise<void> {
  if (user !== undefined) await chmod(home, 0o755);
}
