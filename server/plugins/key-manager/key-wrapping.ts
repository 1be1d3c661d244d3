import { createSecretKey, type KeyObject, randomBytes } from 'node:crypto';
import { Fault } from '../../../runtime/fault.ts';
import { sealBytes, unsealBytes } from '../../../runtime/sealed-bytes.ts';
import type { KeyWrapping } from './key-manager.ts';

const KEY_BYTES = 32;
const LABEL = 'WRIT KEY-ENCRYPTION KEY';
const PEM = new RegExp(
  `^-----BEGIN ${LABEL}-----\n([A-Za-z0-9+/]{43}=)\n-----END ${LABEL}-----\n?$`,
);

/** Where wrapping keys are kept, by id. */
export interface WrappingKeys {
  list(): Promise<string[]>;
  find(id: string): Promise<KeyObject | undefined>;
  /** Durable when it resolves. */
  put(id: string, key: KeyObject): Promise<void>;
}

/** Wrapping in this process, with AES-256-GCM. The key of the highest id wraps; each unwraps its own. */
export function keyWrapping(keys: WrappingKeys): KeyWrapping {
  let making: Promise<string> | undefined;

  const currentId = async (): Promise<string> => {
    const known = (await keys.list()).sort().at(-1);
    if (known !== undefined) return known;
    const id = `kek-${randomBytes(8).toString('hex')}`;
    await keys.put(id, createSecretKey(randomBytes(KEY_BYTES)));
    return id;
  };

  const find = async (id: string): Promise<KeyObject> => {
    const key = await keys.find(id);
    if (key !== undefined) return key;
    throw new Fault('STATE_UNUSABLE', `the key manager of this server has no wrapping key ${id}`);
  };

  return {
    async wrap(dataKey, context) {
      making ??= currentId().finally(() => {
        making = undefined;
      });
      const keyId = await making;
      return { keyId, wrapped: sealBytes(await find(keyId), dataKey, context) };
    },

    async unwrap({ keyId, wrapped }, context) {
      const dataKey = unsealBytes(await find(keyId), wrapped, context);
      if (dataKey !== undefined) return dataKey;
      throw new Fault('STATE_UNUSABLE', `what key ${keyId} is to unwrap is not what it wrapped`);
    },
  };
}

/** As files and backups hold it. */
export function wrappingKeyPem(key: KeyObject): string {
  return `-----BEGIN ${LABEL}-----\n${key.export().toString('base64')}\n-----END ${LABEL}-----\n`;
}

/** Undefined if it is no wrapping key. */
export function wrappingKeyFromPem(pem: string): KeyObject | undefined {
  const [, base64] = PEM.exec(pem) ?? [];
  return base64 === undefined ? undefined : createSecretKey(Buffer.from(base64, 'base64'));
}
