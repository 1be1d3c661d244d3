import { stat } from 'node:fs/promises';
import { Child } from './child.ts';
import type { StateDir } from './state-dir.ts';
import { thisProgram } from './this-program.ts';

export interface UpgradeStoreOptions {
  readonly state: StateDir;
  say(line: string): void;
}

/**
 * `writ server upgrade` on the store of an earlier `writ up`, with a backup beside the state.
 * @param config of the server, which does not run
 * @returns whether the store was of an older schema, and is upgraded
 * @throws Fault STATE_UNUSABLE: why it cannot be
 */
export async function upgradeStore(
  { state, say }: UpgradeStoreOptions,
  config: string,
): Promise<boolean> {
  const time = new Date().toISOString().replaceAll(/[:.]/g, '-');
  const backup = state.in(`before-upgrade-${time}.backup`);
  const child = new Child({
    name: 'server',
    file: process.execPath,
    args: [...thisProgram(), 'server', 'upgrade', '--config', config, '--backup', backup],
    logFile: state.in('server', 'upgrade.log'),
  });
  await child.gone;
  if (!child.succeeded) throw child.epitaph();
  if (!(await isThere(backup))) return false;
  say(`the store of an older writ was upgraded; it is as it was, keys too, in ${backup}`);
  return true;
}

async function isThere(file: string): Promise<boolean> {
  return await stat(file).then(
    () => true,
    () => false,
  );
}
