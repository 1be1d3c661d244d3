/**
 * Key manager `disk`: one PKCS#8 PEM file a key, 0600 in a directory 0700. Whoever reads these files
 * is the trust domain, so a key that others could have read is refused, not repaired.
 */
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { chmod, open } from 'node:fs/promises';
import { join } from 'node:path';
import { writeAtomic } from '../../../runtime/atomic-file.ts';
import { Fault } from '../../../runtime/fault.ts';
import { makeDirectory } from '../../../runtime/make-directory.ts';
import type { KeyManager } from './key-manager.ts';

const ID = /^[a-z0-9][a-z0-9._-]{0,99}$/;
const MAXIMUM_FILE_BYTES = 16 * 1024;

export interface DiskKeyManagerOptions {
  /** Made if it is not there. */
  readonly directory: string;
}

export function diskKeyManager({ directory }: DiskKeyManagerOptions): KeyManager {
  async function load(id: string): Promise<KeyObject | undefined> {
    const file = fileOf(directory, id);
    const pem = await readSecret(file);
    if (pem === undefined) return undefined;
    try {
      return createPrivateKey(pem);
    } catch (error) {
      throw new Fault('STATE_UNUSABLE', `${file} holds no private key`, { cause: error });
    }
  }

  async function store(id: string, key: KeyObject): Promise<void> {
    await makeDirectory(directory, 0o700);
    await chmod(directory, 0o700);
    const pem = key.export({ type: 'pkcs8', format: 'pem' });
    await writeAtomic(fileOf(directory, id), Buffer.from(pem), 0o600);
  }

  return { type: 'disk', load, store };
}

function fileOf(directory: string, id: string): string {
  if (!ID.test(id)) throw new Error(`key id ${JSON.stringify(id)}`);
  return join(directory, `${id}.pem`);
}

async function readSecret(file: string): Promise<string | undefined> {
  try {
    await using handle = await open(file, 'r');
    const { mode, size } = await handle.stat();
    if ((mode & 0o077) !== 0)
      throw new Fault('STATE_UNUSABLE', `${file} can be read by others: its mode must be 0600`);
    if (size > MAXIMUM_FILE_BYTES)
      throw new Fault('STATE_UNUSABLE', `${file} holds no private key`);
    return await handle.readFile('utf8');
  } catch (error) {
    if (error instanceof Fault) throw error;
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw new Fault('STATE_UNUSABLE', `${file} cannot be read`, { cause: error });
  }
}
