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
import type { Datastore } from '../plugins/datastore/datastore.ts';
import type { Entries } from '../registry/entries.ts';
import { type EntryFilter, entryPredicate } from '../registry/entry-filters.ts';
import type { EntryIndex } from '../registry/entry-index.ts';
import { type AgentCaller, actorOf, type Caller } from './callers.ts';
import { eachItem, ITEM_OK } from './item-status.ts';
import { LoopTurns } from './loop-turns.ts';
import { masked } from './mask.ts';
import { pageOf } from './paging.ts';
import { StreamLimit } from './stream-limit.ts';
import { syncEntries } from './sync-entries.ts';

export interface EntryServiceOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly entries: Entries;
  readonly index: EntryIndex;
  readonly trustDomain: TrustDomain;
}

type Created = MessageInitShape<typeof BatchCreateEntryResponse_ResultSchema>;
type Updated = MessageInitShape<typeof BatchUpdateEntryResponse_ResultSchema>;
type Deleted = MessageInitShape<typeof BatchDeleteEntryResponse_ResultSchema>;

/** SPIRE's entry API. */
export function entryService(
  options: EntryServiceOptions,
): Implementation<typeof EntryRpc, Caller> {
  return { ...readers(options), ...writers(options), ...forAgents(options) };
}

function readers({ index, trustDomain }: EntryServiceOptions) {
  function* wanted(filter: EntryFilter | undefined, after: string): Iterable<Entry> {
    const isWanted = entryPredicate(filter, trustDomain);
    for (const entry of index.after(after)) if (isWanted(entry)) yield entry;
  }

  return {
    async countEntries({ filter }) {
      return { count: [...wanted(filter, '')].length };
    },

    async listEntries({ filter, outputMask, pageSize, pageToken }) {
      const page = pageOf({ pageSize, pageToken }, (id) => wanted(filter, id));
      return {
        entries: page.items.map((entry) => shown(entry, outputMask)),
        nextPageToken: page.nextPageToken,
      };
    },

    async getEntry({ id, outputMask }) {
      if (id === '') throw new Fault('INVALID_ARGUMENT', 'missing ID');
      const entry = index.get(id);
      if (entry === undefined) throw new Fault('NOT_FOUND', 'entry not found');
      return shown(entry, outputMask);
    },
  } satisfies Partial<Implementation<typeof EntryRpc, Caller>>;
}

/** A batch is one transaction: a crash leaves all of its items or none. */
function writers({ store, entries }: EntryServiceOptions) {
  return {
    async batchCreateEntry({ entries: asked, outputMask }, { caller }) {
      const change = { actor: actorOf(caller) };
      const results = await store.transaction((tx) =>
        eachItem(
          asked,
          async (init): Promise<Created> => {
            const { entry, isNew } = await entries.create(tx, init, change);
            return { status: isNew ? ITEM_OK : SIMILAR, entry: shown(entry, outputMask) };
          },
          (status) => ({ status }),
        ),
      );
      return { results };
    },

    async batchUpdateEntry({ entries: asked, inputMask, outputMask }, { caller }) {
      const change = { actor: actorOf(caller) };
      const results = await store.transaction((tx) =>
        eachItem(
          asked,
          async (update): Promise<Updated> => {
            if (update.id === '') throw new Fault('INVALID_ARGUMENT', 'missing ID');
            const entry = await entries.update(tx, update, inputMask, change);
            return { status: ITEM_OK, entry: shown(entry, outputMask) };
          },
          (status) => ({ status }),
        ),
      );
      return { results };
    },

    async batchDeleteEntry({ ids }, { caller }) {
      const change = { actor: actorOf(caller) };
      const results = await store.transaction((tx) =>
        eachItem(
          ids,
          async (id): Promise<Deleted> => {
            if (id === '') throw new Fault('INVALID_ARGUMENT', 'missing ID');
            if (!(await entries.delete(tx, id, change)))
              throw new Fault('NOT_FOUND', 'entry not found');
            return { id, status: ITEM_OK };
          },
          (status, id) => ({ id, status }),
        ),
      );
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
