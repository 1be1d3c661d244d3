import { randomBytes } from 'node:crypto';
import type { Signer } from '../../identity/signer.ts';
import type { KeyType } from '../../identity/x509/key.ts';
import type { KeyManager } from '../plugins/key-manager/key-manager.ts';
import { AUTHORITY_KINDS, type AuthorityKind, type AuthorityRow } from './authority-rows.ts';

export interface NewKey {
  readonly name: string;
  readonly signer: Signer;
}

/** The key manager as authorities use it: each key is looked up once. */
export class AuthorityKeys {
  readonly #manager: KeyManager;
  readonly #known = new Map<string, Signer>();

  constructor(manager: KeyManager) {
    this.#manager = manager;
  }

  /** A key that is kept before anything tells of it, so that no row ever lacks its key. */
  async generate(kind: AuthorityKind, keyType: KeyType): Promise<NewKey> {
    const name = `${kind}-${randomBytes(16).toString('hex')}`;
    const signer = await this.#manager.generate(name, keyType);
    this.#known.set(name, signer);
    return { name, signer };
  }

  /** Undefined if the key manager has lost it, or has another in its place. */
  async find({ keyName, publicKey }: AuthorityRow): Promise<Signer | undefined> {
    const known = this.#known.get(keyName);
    if (known !== undefined) return known;
    const found = await this.#manager.find(keyName);
    if (found === undefined || !found.publicKey.equals(publicKey)) return undefined;
    this.#known.set(keyName, found);
    return found;
  }

  async remove(name: string): Promise<void> {
    this.#known.delete(name);
    await this.#manager.remove(name);
  }

  /**
   * Removes the keys that a crash left without their authority.
   * @returns how many
   */
  async removeOrphans(rows: readonly AuthorityRow[]): Promise<number> {
    const owned = new Set(rows.map(({ keyName }) => keyName));
    const isOurs = (name: string) => AUTHORITY_KINDS.some((kind) => name.startsWith(`${kind}-`));
    const names = await this.#manager.list();
    const orphans = names.filter((name) => isOurs(name) && !owned.has(name));
    for (const name of orphans) await this.remove(name);
    return orphans.length;
  }
}
