import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';

/**
 * The same key in memory of its own, whose parts may be looked at.
 *
 * Node 20 freezes for good if, while a key is exported as JWK or asked for `asymmetricKeyDetails`, the
 * garbage collector meets the job of `generateKeyPair` that made it: the job's destructor wants the
 * lock that the export holds. Exports to DER take no lock, and a key that is read from DER has no job.
 */
export function detachedKey(key: KeyObject): KeyObject {
  if (key.type === 'private') {
    const der = key.export({ type: 'pkcs8', format: 'der' });
    return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  }
  const der = key.export({ type: 'spki', format: 'der' });
  return createPublicKey({ key: der, format: 'der', type: 'spki' });
}
