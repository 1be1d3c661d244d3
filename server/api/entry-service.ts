import { setImmediate as breathe } from 'node:timers/promises';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import type {
  BatchCreateEntryResponse_ResultSchema,
  BatchDeleteEntryResponse_ResultSchema,
  BatchUpdateEntryResponse_ResultSchema,
  Entry as EntryRpc,
} from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import {
  type Entry,
  type EntryMask,
  EntrySchema,
} from '../../proto/gen/spire/api/types/entry_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { Datastore, Transaction } from '../plugins/datastore/datastore.ts';
import { SharedTransactions } from '../plugins/datastore/shared-transactions.ts';
import type { Entries } from '../registry/entries.ts';
import type { EntryChange } from '../registry/entry-change.ts';
import {
  type EntryFilter,
  type EntryPredicate,
  entryPredicate,
} from '../registry/entry-filters.ts';
import type { EntryIndex } from '../registry/entry-index.ts';
import type { RegistrarScopes } from '../registry/registrar-scope.ts';
import { type AgentCaller, actorOf, type Caller } from './callers.ts';
import { eachItem, ITEM_OK, itemStatusOf } from './item-status.ts';
import { LoopTurns } from './loop-turns.ts';
import { masked } from './mask.ts';
import { idOf, pageOf } from './paging.ts';
import { StreamLimit } from './stream-limit.ts';
import { syncEntries } from './sync-entries.ts';

export interface EntryServiceOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly entries: Entries;
  readonly index: EntryIndex;
  readonly trustDomain: TrustDomain;
  readonly registrarScopes: RegistrarScopes;
}

/** Entries between two looks at what else there is to do: a few milliseconds. */
const LOOKED_AT_ONCE = 2000;

type Created = MessageInitShape<typeof BatchCreateEntryResponse_ResultSchema>;
type Updated = MessageInitShape<typeof BatchUpdateEntryResponse_ResultSchema>;
type Deleted = MessageInitShape<typeof BatchDeleteEntryResponse_ResultSchema>;

/** SPIRE's entry API. */
export function entryService(
  options: EntryServiceOptions,
): Implementation<typeof EntryRpc, Caller> {
  return { ...readers(options), ...writers(options), ...forAgents(options) };
}

function readers({ store, index, trustDomain, registrarScopes }: EntryServiceOptions) {
  /** Hands the wanted entries behind an id to `take`, until it says that it has enough. */
  async function each(wanted: EntryPredicate, after: string, take: (entry: Entry) => boolean) {
    for (let last: string | undefined = after; last !== undefined; await breathe()) {
      const from: string = last;
      last = undefined;
      let seen = 0;
      for (const entry of index.after(from)) {
        if (wanted(entry) && !take(entry)) return;
        seen += 1;
        if (seen < LOOKED_AT_ONCE) continue;
        last = entry.id;
        break;
      }
    }
  }

  const wantedBy = async (caller: Caller, filter: EntryFilter | undefined) => {
    const sees = await sightOf(caller);
    const isWanted = entryPredicate(filter, trustDomain);
    return (entry: Entry) => sees(entry) && isWanted(entry);
  };

  /** A registrar sees what lies within its bounds, and does not learn of the rest. */
  const sightOf = async (caller: Caller): Promise<EntryPredicate> => {
    if (caller.kind !== 'registrar') return () => true;
    const scope = await registrarScopes.open(store, caller.id.toString(), actorOf(caller));
    return (entry) => scope.sees(entry);
  };

  return {
    async countEntries({ filter }, { caller }) {
      let count = 0;
      await each(await wantedBy(caller, filter), '', () => {
        count += 1;
        return true;
      });
      return { count };
    },

    async listEntries({ filter, outputMask, pageSize, pageToken }, { caller }) {
      const found: Entry[] = [];
      // One more than the page holds, to tell whether there is another.
      const most = pageSize > 0 ? pageSize + 1 : Number.POSITIVE_INFINITY;
      await each(await wantedBy(caller, filter), idOf(pageToken), (entry) => {
        found.push(entry);
        return found.length < most;
      });
      const page = pageOf({ pageSize, pageToken }, () => found);
      return {
        entries: page.items.map((entry) => shown(entry, outputMask)),
        nextPageToken: page.nextPageToken,
      };
    },

    async getEntry({ id, outputMask }, { caller }) {
      if (id === '') throw new Fault('INVALID_ARGUMENT', 'missing ID');
      const sees = await sightOf(caller);
      const entry = index.get(id);
      if (entry === undefined || !sees(entry)) throw new Fault('NOT_FOUND', 'entry not found');
      return shown(entry, outputMask);
    },
  } satisfies Partial<Implementation<typeof EntryRpc, Caller>>;
}

/** A batch is part of one transaction: a crash leaves all of its items or none. */
function writers({ store, entries, registrarScopes }: EntryServiceOptions) {
  const transactions = SharedTransactions.of(store);
  const changeBy = async (tx: Transaction, caller: Caller): Promise<EntryChange> => {
    const actor = actorOf(caller);
    if (caller.kind !== 'registrar') return { actor };
    return { actor, bounds: await registrarScopes.open(tx, caller.id.toString(), actor) };
  };

  return {
    async batchCreateEntry({ entries: asked, outputMask }, { caller }) {
      const results = await transactions.run(async (tx) => {
        const outcomes = await entries.createAll(tx, asked, await changeBy(tx, caller));
        return outcomes.map((outcome): Created => {
          if (outcome instanceof Fault) return { status: itemStatusOf(outcome) };
          const { entry, isNew } = outcome;
          return { status: isNew ? ITEM_OK : SIMILAR, entry: shown(entry, outputMask) };
        });
      });
      return { results };
    },

    async batchUpdateEntry({ entries: asked, inputMask, outputMask }, { caller }) {
      const results = await transactions.run(async (tx) => {
        const change = await changeBy(tx, caller);
        return eachItem(
          asked,
          async (update): Promise<Updated> => {
            const entry = await entries.update(tx, update, inputMask, change);
            return { status: ITEM_OK, entry: shown(entry, outputMask) };
          },
          (status) => ({ status }),
        );
      });
      return { results };
    },

    async batchDeleteEntry({ ids }, { caller }) {
      const results = await transactions.run(async (tx) => {
        const change = await changeBy(tx, caller);
        return eachItem(
          ids,
          async (id): Promise<Deleted> => {
            if (id === '') throw new Fault('INVALID_ARGUMENT', 'missing ID');
            if (!(await entries.delete(tx, id, change)))
              throw new Fault('NOT_FOUND', 'entry not found');
            return { id, status: ITEM_OK };
          },
          (status, id) => ({ id, status }),
        );
      });
      return { results };
    },
  } satisfies Partial<Implementation<typeof EntryRpc, Caller>>;
}

/** An agent needs one; those of an old connection end a little later. */
const SYNCS_PER_AGENT = 8;

function forAgents({ index, clock }: EntryServiceOptions) {
  const turns = new LoopTurns();
  const limit = new StreamLimit(SYNCS_PER_AGENT);
  const authorised = (caller: Caller) => index.authorisedFor(agentOf(caller).record, clock.now());
  return {
    async getAuthorizedEntries({ outputMask }, { caller }) {
      await turns.next();
      return { entries: authorised(caller).map((entry) => shown(entry, outputMask)) };
    },

    syncAuthorizedEntries: (requests, { caller }) =>
      limit.hold(agentOf(caller).record.id, () =>
        syncEntries(requests, () => authorised(caller), turns),
      ),
  } satisfies Partial<Implementation<typeof EntryRpc, Caller>>;
}

/** As SPIRE answers: with the entry that is there. */
const SIMILAR = { code: 6, message: 'similar entry already exists' } as const;

/** An entry as its reader wants to see it. */
export function shown(entry: Entry, mask: EntryMask | undefined): Entry {
  return masked(EntrySchema, entry, mask, ['id']);
}

/** The table lets agents alone through to where this is asked. */
export function agentOf(caller: Caller): AgentCaller {
  if (caller.kind !== 'agent') throw new Error(`${caller.kind} passed for an agent`);
  return caller;
}
