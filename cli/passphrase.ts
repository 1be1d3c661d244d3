import { readFile } from 'node:fs/promises';
import { Fault } from '../runtime/fault.ts';
import { checkPassphrase } from './backup-file.ts';
import { type Flags, textFlag } from './verb.ts';

/**
 * What `--passphrase-file` names; undefined without it.
 * @throws Fault CONFIG_INVALID
 */
export async function passphraseOf(flags: Flags): Promise<string | undefined> {
  const file = textFlag(flags, 'passphrase-file');
  if (file === undefined) return undefined;
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    throw new Fault('CONFIG_INVALID', `--passphrase-file ${file} cannot be read`, { cause });
  }
  return checkPassphrase(text);
}
