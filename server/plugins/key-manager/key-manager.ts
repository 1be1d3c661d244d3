import type { KeyObject } from 'node:crypto';

/** Keeps the private keys of the authorities. Kind: KeyManager. */
export interface KeyManager {
  /** Name in configuration, in snake_case. */
  readonly type: string;

  /**
   * The private key kept under `id`, undefined if there is none.
   * @throws Fault STATE_UNUSABLE if it is there and cannot be used
   */
  load(id: string): Promise<KeyObject | undefined>;

  /** Keeps a private key; durable when this resolves. `id` is of `a-z 0-9 . _ -`, at most 100. */
  store(id: string, key: KeyObject): Promise<void>;
}
