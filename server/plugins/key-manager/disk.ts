/**
 * Key manager `disk`: one PKCS#8 PEM file a key, 0600 in a directory 0700. Whoever reads these files
 * is the trust domain, so a key that others could have read is refused, not repaired.
 */
import type { KeyObject } from 'node:crypto';
import { chmod, open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { localSigner } from '../../../identity/signer.ts';
import { generateKey } from '../../../identity/x509/key.ts';
import { writeAtomic } from '../../../runtime/atomic-file.ts';
import { Fault } from '../../../runtime/fault.ts';
import { makeDirectory } from '../../../runtime/make-directory.ts';
import { checkedKeyId, isKeyId, pemOf, privateKeyFromPem } from './key-id.ts';
import type { ExportedKey, KeyManager } from './key-manager.ts';

const MAXIMUM_FILE_BYTES = 16 * 1024;
const SUFFIX = '.pem';

export interface DiskKeyManagerOptions {
  /** Made if it is not there. */
  readonly directory: string;
}

export function diskKeyManager({ directory }: DiskKeyManagerOptions): KeyManager {
  const load = async (id: string): Promise<KeyObject | undefined> => {
    const file = fileOf(directory, id);
    const pem = await readSecret(file);
    return pem === undefined ? undefined : privateKeyFromPem(pem, file);
  };

  const store = async (id: string, key: KeyObject): Promise<void> => {
    await makeDirectory(directory, 0o700);
    await chmod(directory, 0o700);
    await writeAtomic(fileOf(directory, id), Buffer.from(pemOf(key)), 0o600);
  };

  const list = async (): Promise<string[]> => {
    const names = await namesIn(directory);
    const ids = names.flatMap((name) => (name.endsWith(SUFFIX) ? name.slice(0, -4) : []));
    return ids.filter(isKeyId).sort();
  };

  return {
    type: 'disk',
    list,

    async generate(id, keyType) {
      const key = await generateKey(keyType);
      await store(id, key);
      return localSigner(key);
    },

    async find(id) {
      const key = await load(id);
      return key === undefined ? undefined : localSigner(key);
    },

    async remove(id) {
      await rm(fileOf(directory, id), { force: true });
    },

    async *exportKeys(): AsyncIterable<ExportedKey> {
      for (const id of await list()) {
        const key = await load(id);
        // One that has just been removed is no longer anybody's.
        if (key !== undefined) yield { id, pem: pemOf(key) };
      }
    },

    async importKey(id, pem) {
      await store(id, privateKeyFromPem(pem, `key ${id}`));
    },
  };
}

function fileOf(directory: string, id: string): string {
  return join(directory, `${checkedKeyId(id)}${SUFFIX}`);
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw new Fault('STATE_UNUSABLE', `${directory} cannot be read`, { cause: error });
  }
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
