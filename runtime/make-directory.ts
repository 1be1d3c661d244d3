import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/**
 * Makes a directory and those above it that are missing, as `mkdir` with `recursive` does, which turns
 * for ever where a file system such as /proc makes none and says that there is no such place.
 * @param mode of each that is made
 * @throws what `mkdir` says, EEXIST also where something else than a directory is there
 */
export async function makeDirectory(path: string, mode: number): Promise<void> {
  try {
    await mkdir(path, { mode });
  } catch (error) {
    if (isCode(error, 'EEXIST') && (await isDirectory(path))) return;
    const parent = dirname(path);
    if (!isCode(error, 'ENOENT') || (await isDirectory(parent))) throw error;
    await makeDirectory(parent, mode);
    await mkdir(path, { mode });
  }
}

async function isDirectory(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found?.isDirectory() === true;
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
