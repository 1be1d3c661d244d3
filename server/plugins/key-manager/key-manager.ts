import type { Signer } from '../../../identity/signer.ts';
import type { KeyType } from '../../../identity/x509/key.ts';

/** A key as it leaves a key manager, for a backup. */
export interface ExportedKey {
  readonly id: string;
  /** PKCS#8, or a wrapping key under a label of its own. */
  readonly pem: string;
}

/** A data key as it may be stored: only the key manager can unwrap it. */
export interface WrappedKey {
  /** Of the wrapping key, which the key manager keeps. */
  readonly keyId: string;
  readonly wrapped: Uint8Array;
}

/**
 * Encrypts data keys, as a KMS does: the wrapping key stays inside.
 *
 * `context` is authenticated and not stored: what was wrapped for one thing unwraps for no other.
 */
export interface KeyWrapping {
  /** Makes a wrapping key, durable when this resolves, if there is none. */
  wrap(dataKey: Uint8Array, context: Uint8Array): Promise<WrappedKey>;

  /** @throws Fault STATE_UNUSABLE if the wrapping key is not here, or the bytes are not what it wrapped */
  unwrap(key: WrappedKey, context: Uint8Array): Promise<Uint8Array>;
}

/**
 * Makes the private keys of the authorities, keeps them, and signs with them; a key need never leave it,
 * so that a KMS or a PKCS#11 token can be one. Kind: KeyManager.
 *
 * An `id` is of `a-z 0-9 . _ -`, starts with a letter or digit, and has at most 100 characters.
 */
export interface KeyManager {
  /** Name in configuration, in snake_case. */
  readonly type: string;

  /** Makes a key and keeps it; durable when this resolves. An `id` that is taken gets a new key. */
  generate(id: string, keyType: KeyType): Promise<Signer>;

  /**
   * The key kept under `id`, undefined if there is none.
   * @throws Fault STATE_UNUSABLE if it is there and cannot be used
   */
  find(id: string): Promise<Signer | undefined>;

  /** Forgets a key; does nothing if there is none. */
  remove(id: string): Promise<void>;

  /** The ids of all keys that sign. */
  list(): Promise<string[]>;

  readonly wrapping: KeyWrapping;

  /** All keys. A manager that gives no key out lacks this. */
  exportKeys?(): AsyncIterable<ExportedKey>;

  /**
   * Takes a key over from a backup.
   * @param pem as `exportKeys` gave it
   * @throws Fault STATE_UNUSABLE if it is no key
   */
  importKey?(id: string, pem: string): Promise<void>;
}
