import type { Signer } from '../../../identity/signer.ts';
import type { KeyType } from '../../../identity/x509/key.ts';

/** A key as it leaves a key manager, for a backup. */
export interface ExportedKey {
  readonly id: string;
  /** PKCS#8. */
  readonly pem: string;
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

  /** The ids of all keys. */
  list(): Promise<string[]>;

  /** All keys. A manager that gives no key out lacks this. */
  exportKeys?(): AsyncIterable<ExportedKey>;

  /**
   * Takes a key over from a backup.
   * @param pem PKCS#8
   * @throws Fault STATE_UNUSABLE if it is no private key
   */
  importKey?(id: string, pem: string): Promise<void>;
}
