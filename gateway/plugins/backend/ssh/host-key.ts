import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { writeAtomic } from '../../../../runtime/atomic-file.ts';
import { Fault } from '../../../../runtime/fault.ts';
import { makeDirectory } from '../../../../runtime/make-directory.ts';

const OTHERS = 0o077;

/**
 * The key that this gateway shows to SSH clients, made once: who pins it knows the gateway after a
 * restart. Kept as `ssh/host_ed25519` of the state directory, 0600.
 * @throws Fault STATE_UNUSABLE if the file is no such key, or others may read it
 */
export async function loadHostKey(stateDir: string): Promise<KeyObject> {
  const directory = join(stateDir, 'ssh');
  const path = join(directory, 'host_ed25519');
  const found = await readSecret(path);
  if (found !== undefined) return parseKey(found, path);
  const { privateKey } = generateKeyPairSync('ed25519');
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' });
  try {
    await makeDirectory(directory, 0o700);
    await writeAtomic(path, Buffer.from(pem), 0o600);
  } catch (cause) {
    throw new Fault('STATE_UNUSABLE', `${path} cannot be written`, { cause });
  }
  return privateKey;
}

async function readSecret(path: string): Promise<Buffer | undefined> {
  try {
    const { mode } = await stat(path);
    if ((mode & OTHERS) !== 0) {
      throw new Fault('STATE_UNUSABLE', `${path} may be read by others: chmod 600 it`);
    }
    return await readFile(path);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

function parseKey(pem: Buffer, path: string): KeyObject {
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyType === 'ed25519') return key;
  } catch (cause) {
    throw new Fault('STATE_UNUSABLE', `${path} is no key`, { cause });
  }
  throw new Fault('STATE_UNUSABLE', `${path} is no Ed25519 key`);
}
