/**
 * Key manager `disk`: one PEM file a key, 0600 in a directory 0700: `.pem` of PKCS#8 for those that sign,
 * `.kek` for those that wrap. Whoever reads these files is the trust domain, so a key that others could
 * have read is refused, not repaired.
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
import {
  keyWrapping,
  type WrappingKeys,
  wrappingKeyFromPem,
  wrappingKeyPem,
} from './key-wrapping.ts';

const MAXIMUM_FILE_BYTES = 16 * 1024;
const SUFFIX = '.pem';
const WRAPPING_SUFFIX = '.kek';

export interface DiskKeyManagerOptions {
  /** Made if it is not there. */
  readonly directory: string;
}

export function diskKeyManager({ directory }: DiskKeyManagerOptions): KeyManager {
  const wrappingKeys = wrappingKeysIn(directory);

  const load = async (id: string): Promise<KeyObject | undefined> => {
    const file = fileOf(directory, id, SUFFIX);
    const pem = await readSecret(file);
    return pem === undefined ? undefined : privateKeyFromPem(pem, file);
  };

  const list = () => idsIn(directory, SUFFIX);
  const store = (id: string, key: KeyObject) =>
    write(directory, fileOf(directory, id, SUFFIX), pemOf(key));

  return {
    type: 'disk',
    list,
    wrapping: keyWrapping(wrappingKeys),

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
      for (const suffix of [SUFFIX, WRAPPING_SUFFIX])
        await rm(fileOf(directory, id, suffix), { force: true });
    },

    async *exportKeys(): AsyncIterable<ExportedKey> {
      for (const id of await list()) {
        const key = await load(id);
        // One that has just been removed is no longer anybody's.
        if (key !== undefined) yield { id, pem: pemOf(key) };
      }
      for (const id of await wrappingKeys.list()) {
        const key = await wrappingKeys.find(id);
        if (key !== undefined) yield { id, pem: wrappingKeyPem(key) };
      }
    },

    async importKey(id, pem) {
      const wrapping = wrappingKeyFromPem(pem);
      if (wrapping !== undefined) await wrappingKeys.put(id, wrapping);
      else await store(id, privateKeyFromPem(pem, `key ${id}`));
    },
  };
}

function wrappingKeysIn(directory: string): WrappingKeys {
  return {
    list: () => idsIn(directory, WRAPPING_SUFFIX),

    async find(id) {
      const file = fileOf(directory, id, WRAPPING_SUFFIX);
      const pem = await readSecret(file);
      if (pem === undefined) return undefined;
      const key = wrappingKeyFromPem(pem);
      if (key === undefined) throw new Fault('STATE_UNUSABLE', `${file} holds no wrapping key`);
      return key;
    },

    put: (id, key) => write(directory, fileOf(directory, id, WRAPPING_SUFFIX), wrappingKeyPem(key)),
  };
}

async function write(directory: string, file: string, pem: string): Promise<void> {
  await makeDirectory(directory, 0o700);
  await chmod(directory, 0o700);
  await writeAtomic(file, Buffer.from(pem), 0o600);
}

function fileOf(directory: string, id: string, suffix: string): string {
  return join(directory, `${checkedKeyId(id)}${suffix}`);
}

async function idsIn(directory: string, suffix: string): Promise<string[]> {
  const names = await namesIn(directory);
  const ids = names.flatMap((name) => (name.endsWith(suffix) ? name.slice(0, -suffix.length) : []));
  return ids.filter(isKeyId).sort();
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
