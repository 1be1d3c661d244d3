/**
 * How a secret lies in the store: under a key of its own, which the key manager wraps. Both are bound to
 * trust domain, name, version and login, so that a row that was changed, or put in the place of another,
 * opens for nobody. Who can write to the store can put back a row that was once there, or delete one;
 * reading needs the key manager.
 */
import { createSecretKey, randomBytes } from 'node:crypto';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import { Fault } from '../../runtime/fault.ts';
import { sealBytes, unsealBytes } from '../../runtime/sealed-bytes.ts';
import type { KeyManager } from '../plugins/key-manager/key-manager.ts';
import type { SealedVersion, SecretPlace } from './secret-rows.ts';

const KEY_BYTES = 32;

export type Sealed = Pick<SealedVersion, 'sealed' | 'wrappedKey' | 'keyId'>;

export class SecretSeal {
  readonly #trustDomain: TrustDomain;
  readonly #keys: Pick<KeyManager, 'wrapping'>;

  constructor(options: {
    readonly trustDomain: TrustDomain;
    readonly keys: Pick<KeyManager, 'wrapping'>;
  }) {
    this.#trustDomain = options.trustDomain;
    this.#keys = options.keys;
  }

  async seal(place: SecretPlace, value: string): Promise<Sealed> {
    const key = randomBytes(KEY_BYTES);
    const context = this.#context('key', place);
    const { keyId, wrapped } = await this.#keys.wrapping.wrap(key, context);
    const sealed = sealBytes(
      createSecretKey(key),
      Buffer.from(value),
      this.#context('value', place),
    );
    return { sealed, wrappedKey: wrapped, keyId };
  }

  /** @throws Fault STATE_UNUSABLE if it is not what was sealed there, or its wrapping key is gone */
  async open(version: SecretPlace & Sealed): Promise<string> {
    const { name, version: number, sealed, wrappedKey: wrapped, keyId } = version;
    const key = await this.#keys.wrapping.unwrap({ keyId, wrapped }, this.#context('key', version));
    const value = unsealBytes(createSecretKey(key), sealed, this.#context('value', version));
    if (value !== undefined) return Buffer.from(value).toString();
    throw new Fault('STATE_UNUSABLE', `version ${number} of secret ${name} is not what was kept`);
  }

  #context(what: 'key' | 'value', { name, version, login }: SecretPlace): Uint8Array {
    return Buffer.from(
      JSON.stringify([`writ-secret-${what}-v1`, this.#trustDomain, name, version, login]),
    );
  }
}
