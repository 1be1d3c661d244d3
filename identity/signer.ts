import { createPublicKey, type KeyObject, sign } from 'node:crypto';
import type { SignatureAlgorithm } from './x509/signature.ts';

/** Signs with a private key that may be out of reach: in a file, a KMS or a PKCS#11 token. */
export interface Signer {
  readonly publicKey: KeyObject;

  /**
   * ECDSA as DER, RSA by PKCS#1 v1.5, Ed25519 raw. One that answers at once is not waited for, so that
   * thousands of leaves a second stay cheap.
   */
  sign(data: Uint8Array, algorithm: SigningAlgorithm): Uint8Array | Promise<Uint8Array>;
}

/** What of a signature algorithm a signer has to know: its key has the rest. */
export type SigningAlgorithm = Pick<SignatureAlgorithm, 'hash'>;

/** A signer that answers at once. */
export interface LocalSigner extends Signer {
  sign(data: Uint8Array, algorithm: SigningAlgorithm): Uint8Array;
}

/** Signs with a key in this process's memory. */
export function localSigner(privateKey: KeyObject): LocalSigner {
  return {
    publicKey: createPublicKey(privateKey),
    sign: (data, { hash }) => sign(hash, data, privateKey),
  };
}

/** `next` of a value that is here, or that is to come: the first without a turn of the event loop. */
export function whenHere<T, R>(value: T | Promise<T>, next: (value: T) => R): R | Promise<R> {
  return value instanceof Promise ? value.then(next) : next(value);
}
