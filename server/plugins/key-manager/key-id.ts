import { createPrivateKey, type KeyObject } from 'node:crypto';
import { Fault } from '../../../runtime/fault.ts';

const ID = /^[a-z0-9][a-z0-9._-]{0,99}$/;

/** The id, if a key can be named so. @throws Error for a bug of the caller */
export function checkedKeyId(id: string): string {
  if (!ID.test(id)) throw new Error(`key id ${JSON.stringify(id)}`);
  return id;
}

export function isKeyId(id: string): boolean {
  return ID.test(id);
}

/**
 * @param pem PKCS#8, untrusted
 * @param where what to call it in an error
 * @throws Fault STATE_UNUSABLE
 */
export function privateKeyFromPem(pem: string, where: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch (error) {
    throw new Fault('STATE_UNUSABLE', `${where} holds no private key`, { cause: error });
  }
}

export function pemOf(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
}
