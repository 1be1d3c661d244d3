import { createHash } from 'node:crypto';
import type { Datastore, Transaction } from '../plugins/datastore/datastore.ts';
import type { SpentToken, SpentTokenStore } from '../plugins/node-attestor/oidc.ts';

/** Tokens of other issuers that have proved a node, each until it would be refused for its age. */
export class SpentTokens implements SpentTokenStore {
  readonly #store: Datastore;

  constructor({ store }: { readonly store: Datastore }) {
    this.#store = store;
  }

  spend({ issuer, id, expiresAt }: SpentToken): Promise<boolean> {
    return this.#store.transaction(async (tx) => {
      const added = await tx.run(
        `insert into oidc_tokens (sha256, expires_at_ms) values (?, ?)
         on conflict (sha256) do nothing`,
        digestOf(issuer, id),
        Math.ceil(expiresAt.getTime()),
      );
      return added === 1;
    });
  }

  async dropExpired(tx: Transaction, now: Date): Promise<void> {
    await tx.run('delete from oidc_tokens where expires_at_ms <= ?', now.getTime());
  }
}

/** An id is its issuer's alone; where one ends and the other begins is told by the length. */
function digestOf(issuer: string, id: string): Uint8Array {
  return createHash('sha256').update(`${issuer.length}:${issuer}${id}`).digest();
}
