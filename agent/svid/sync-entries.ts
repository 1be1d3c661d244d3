/**
 * The agent's side of SPIRE's SyncAuthorizedEntries: a small set arrives whole; of a large one come
 * pages of revisions first, and the agent asks by id for what it lacks.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import type {
  EntryRevision,
  SyncAuthorizedEntriesRequestSchema,
  SyncAuthorizedEntriesResponse,
} from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import type { Entry } from '../../proto/gen/spire/api/types/entry_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { RequestStream } from '../request-stream.ts';
import { type AgentEntry, parseEntry } from './entry.ts';

/** Ids in one request; SPIRE's own agent asks for as many. */
const IDS_PER_REQUEST = 500;
const MAXIMUM_ENTRIES = 500_000;

const OUTPUT_MASK = {
  spiffeId: true,
  selectors: true,
  federatesWith: true,
  revisionNumber: true,
  storeSvid: true,
  hint: true,
  createdAt: true,
  additionalAttributes: true,
};

type Request = MessageInitShape<typeof SyncAuthorizedEntriesRequestSchema>;

/** The call itself: requests up, responses down. */
export type SyncCall = (
  requests: AsyncIterable<Request>,
) => AsyncIterable<SyncAuthorizedEntriesResponse>;

/** An entry as it stood at the last sync, also one that is not served. */
interface Known {
  readonly revision: bigint;
  readonly createdAt: bigint;
  readonly entry: AgentEntry | undefined;
}

/** Remembers what the last sync brought, so that the next one transfers only what has changed. */
export class EntrySync {
  readonly #trustDomain: TrustDomain;
  #known = new Map<string, Known>();

  constructor(trustDomain: TrustDomain) {
    this.#trustDomain = trustDomain;
  }

  /**
   * All entries that the agent may serve now. If the call fails nothing of it is remembered.
   * @throws Fault `PROTOCOL_VIOLATION` if the answers go beyond any use
   */
  async run(call: SyncCall): Promise<readonly AgentEntry[]> {
    const requests = new RequestStream<Request>();
    try {
      requests.push({ outputMask: OUTPUT_MASK });
      const responses = call(requests)[Symbol.asyncIterator]();
      const first = await readPages(responses);
      const found = new Map(first.entries.map((entry) => this.#parse(entry)));
      const missing = first.revisions.filter((revision) => !this.#keep(found, revision));
      for (let at = 0; at < missing.length; at += IDS_PER_REQUEST) {
        requests.push({ ids: missing.slice(at, at + IDS_PER_REQUEST).map(({ id }) => id) });
        const { entries } = await readPages(responses);
        for (const [id, known] of entries.map((entry) => this.#parse(entry))) found.set(id, known);
      }
      requests.end();
      await responses.next();
      this.#known = found;
      return [...found.values()].flatMap(({ entry }) => entry ?? []);
    } finally {
      requests.end();
    }
  }

  #parse(message: Entry): [string, Known] {
    const { id, revisionNumber: revision, createdAt } = message;
    return [id, { revision, createdAt, entry: parseEntry(message, this.#trustDomain) }];
  }

  /** Takes the copy at hand if it is of that revision. */
  #keep(found: Map<string, Known>, revision: EntryRevision): boolean {
    const known = this.#known.get(revision.id);
    if (known === undefined) return false;
    if (known.revision !== revision.revisionNumber || known.createdAt !== revision.createdAt) {
      return false;
    }
    found.set(revision.id, known);
    return true;
  }
}

/** Pages up to the one that has none after it. */
async function readPages(responses: AsyncIterator<SyncAuthorizedEntriesResponse>) {
  const revisions: EntryRevision[] = [];
  const entries: Entry[] = [];
  for (let more = true; more; ) {
    const { done, value } = await responses.next();
    if (done === true) throw new Fault('PROTOCOL_VIOLATION', 'the server ended the sync too early');
    for (const revision of value.entryRevisions) revisions.push(revision);
    for (const entry of value.entries) entries.push(entry);
    if (revisions.length + entries.length > MAXIMUM_ENTRIES) {
      throw new Fault('PROTOCOL_VIOLATION', `the server sent over ${MAXIMUM_ENTRIES} entries`);
    }
    more = value.more;
  }
  return { revisions, entries };
}
