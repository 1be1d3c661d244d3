/**
 * Key manager `memory`: keys that end with the process. After each start all authorities are new, and
 * agents that know the old ones alone have to attest anew.
 */
import type { KeyObject } from 'node:crypto';
import { localSigner } from '../../../identity/signer.ts';
import { generateKey } from '../../../identity/x509/key.ts';
import { checkedKeyId } from './key-id.ts';
import type { KeyManager } from './key-manager.ts';
import { keyWrapping } from './key-wrapping.ts';

export interface MemoryKeyManagerOptions {
  /** Private keys by id; what the manager starts with, and keeps its own in. */
  readonly keys?: Map<string, KeyObject>;
  /** The same of wrapping keys. */
  readonly wrappingKeys?: Map<string, KeyObject>;
}

export function memoryKeyManager({
  keys = new Map(),
  wrappingKeys = new Map(),
}: MemoryKeyManagerOptions = {}): KeyManager {
  return {
    type: 'memory',

    async generate(id, keyType) {
      const key = await generateKey(keyType);
      keys.set(checkedKeyId(id), key);
      return localSigner(key);
    },

    async find(id) {
      const key = keys.get(id);
      return key === undefined ? undefined : localSigner(key);
    },

    async remove(id) {
      keys.delete(id);
    },

    async list() {
      return [...keys.keys()];
    },

    wrapping: keyWrapping({
      list: async () => [...wrappingKeys.keys()],
      find: async (id) => wrappingKeys.get(id),
      put: async (id, key) => void wrappingKeys.set(id, key),
    }),
  };
}
