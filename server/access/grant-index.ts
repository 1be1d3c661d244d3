import type { Grant } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Transaction } from '../plugins/datastore/datastore.ts';
import { listGrants, storedRevision } from './resources.ts';

interface Read {
  readonly revision: bigint;
  readonly byIdentity: ReadonlyMap<string, readonly Grant[]>;
}

/**
 * The grants of one identity, without reading those of all others for each session: they are read again
 * when the store has another revision, which is read in the transaction that asks.
 */
export class GrantIndex {
  #committed: Read | undefined;

  /** Each with the names of its roles. */
  async heldBy(tx: Transaction, spiffeId: string): Promise<readonly Grant[]> {
    const revision = await storedRevision(tx);
    let read = this.#committed;
    if (read?.revision !== revision) {
      const fresh = { revision, byIdentity: byIdentity(await listGrants(tx)) };
      // A revision that is rolled back is given again, to other grants.
      tx.afterCommit(() => {
        this.#committed = fresh;
      });
      read = fresh;
    }
    return read.byIdentity.get(spiffeId) ?? [];
  }
}

function byIdentity(grants: readonly Grant[]): Map<string, Grant[]> {
  const index = new Map<string, Grant[]>();
  for (const grant of grants) {
    const held = index.get(grant.identity);
    if (held === undefined) index.set(grant.identity, [grant]);
    else held.push(grant);
  }
  return index;
}
