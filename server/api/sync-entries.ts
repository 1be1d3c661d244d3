import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  SyncAuthorizedEntriesRequest,
  SyncAuthorizedEntriesResponseSchema,
} from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { type Entry, EntrySchema } from '../../proto/gen/spire/api/types/entry_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { LoopTurns } from './loop-turns.ts';
import { masked } from './mask.ts';

type Response = MessageInitShape<typeof SyncAuthorizedEntriesResponseSchema>;

const PAGE = 500;

/**
 * SPIRE's incremental sync: a small set comes whole; of a large one the revisions come first, in pages,
 * and then what the agent asks back for by id. An empty set is an empty message.
 * @param requests untrusted
 * @param authorised the agent's entries, by id
 * @param turns one is waited for before each step that costs milliseconds
 * @throws Fault INVALID_ARGUMENT
 */
export async function* syncEntries(
  requests: AsyncIterable<SyncAuthorizedEntriesRequest>,
  authorised: () => readonly Entry[],
  turns: LoopTurns,
): AsyncGenerator<Response> {
  const input = requests[Symbol.asyncIterator]();
  const first = await input.next();
  if (first.done === true) return;
  const { outputMask: mask, ids } = first.value;
  if (ids.length > 0) throw invalid('specifying IDs on initial request is not supported');
  if (mask !== undefined && !mask.revisionNumber) throw invalid('revision number cannot be masked');
  const shown = (entry: Entry) => masked(EntrySchema, entry, mask, ['id']);

  await turns.next();
  const entries = authorised();
  if (entries.length <= PAGE) {
    yield { entries: entries.map(shown) };
    return;
  }
  for (const { page, more } of pagesOf(entries)) {
    await turns.next();
    yield {
      entryRevisions: page.map(({ id, revisionNumber, createdAt }) => {
        return { id, revisionNumber, createdAt };
      }),
      more,
    };
  }
  const byId = new Map(entries.map((entry) => [entry.id, entry]));
  for await (const request of { [Symbol.asyncIterator]: () => input }) {
    const asked = [...new Set(request.ids)].flatMap((id) => byId.get(id) ?? []);
    for (const { page, more } of pagesOf(asked)) {
      await turns.next();
      yield { entries: page.map(shown), more };
    }
  }
}

/** At least one page, so that each request is answered. */
function* pagesOf(entries: readonly Entry[]): Generator<{ page: readonly Entry[]; more: boolean }> {
  let start = 0;
  do {
    const page = entries.slice(start, start + PAGE);
    start += PAGE;
    yield { page, more: start < entries.length };
  } while (start < entries.length);
}

function invalid(message: string): Fault {
  return new Fault('INVALID_ARGUMENT', message);
}
