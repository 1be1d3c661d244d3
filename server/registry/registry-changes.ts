/**
 * What changes whom agents may serve is a row of `entry_events`, numbered without gaps in the order of
 * commits (one writer), and the index follows those rows: this server's own changes right after their
 * commit, those of other servers when `catchUp` reads of them.
 */
import { fromBinary } from '@bufbuild/protobuf';
import { type Entry, EntrySchema } from '../../proto/gen/spire/api/types/entry_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Watched, type WatchedSource } from '../../runtime/watched.ts';
import type { Datastore, Reader, Row, Transaction } from '../plugins/datastore/datastore.ts';
import { blob, integer, text } from '../plugins/datastore/row.ts';
import { AgentWakes } from './agent-wakes.ts';
import type { Concerned, EntryIndex, Standing } from './entry-index.ts';
import { loadEntries, loadStandings } from './load-index.ts';

/** One change that may concern agents. */
export type RegistryChange =
  | EntryChanged
  | IdentityChanged
  | { readonly kind: 'agent'; readonly id: string }
  /** Whatever else; each agent looks for itself. */
  | { readonly kind: 'any' };

export interface EntryChanged {
  readonly kind: 'entry';
  readonly id: string;
  /** Undefined: deleted. */
  readonly entry: Entry | undefined;
  /** The record that was made along with the entry. */
  readonly identity?: IdentityChanged | undefined;
}

export interface IdentityChanged {
  readonly kind: 'identity';
  readonly spiffeId: string;
  /** Undefined: as it was. */
  readonly standing?: Standing;
}

const KEEP_MS = 24 * 60 * 60 * 1000;
const READ_AT_ONCE = 500;
const NOBODY: Concerned = { ids: new Set(), aliases: [] };
const EVENT_COLUMNS = ['seq', 'entry_id', 'spiffe_id', 'at_ms'];

export interface RegistryChangesOptions {
  readonly clock: Clock;
  readonly index: EntryIndex;
}

export class RegistryChanges {
  /** Agents that wait for what concerns them. */
  readonly wakes = new AgentWakes();
  readonly #options: RegistryChangesOptions;
  readonly #head = new Watched(0n);
  /** The newest number that a transaction has taken. */
  readonly #taken = new WeakMap<Transaction, bigint>();
  /** Own changes that are in the index before those of others that come first, and their numbers. */
  readonly #ahead = new Map<string, bigint>();

  constructor(options: RegistryChangesOptions) {
    this.#options = options;
  }

  /** The newest change up to which the index shows all; only grows. */
  get head(): WatchedSource<bigint> {
    return this.#head;
  }

  /** Fills the index; once, before anybody watches. */
  async load(store: Datastore): Promise<void> {
    const { index } = this.#options;
    const seq = await newestSeq(store);
    for await (const standings of loadStandings(store))
      for (const [spiffeId, standing] of standings) index.setStanding(spiffeId, standing);
    for await (const entries of loadEntries(store)) for (const entry of entries) index.put(entry);
    this.#head.set(seq);
  }

  /** Writes changes; those who watch hear of them once they are committed. */
  async record(tx: Transaction, ...changes: readonly RegistryChange[]): Promise<void> {
    const now = this.#options.clock.now().getTime();
    const before = this.#taken.get(tx) ?? (await newestSeq(tx));
    const numbered = changes.map((change, at) => ({ change, seq: before + BigInt(at + 1) }));
    this.#taken.set(tx, before + BigInt(changes.length));
    await tx.insertMany({
      table: 'entry_events',
      columns: EVENT_COLUMNS,
      rows: numbered.map(({ change, seq }) => [seq, entryIdOf(change), spiffeIdOf(change), now]),
    });
    tx.afterCommit(() => this.#commit(numbered));
  }

  /** Follows what other servers have committed. @throws Fault STORE_UNAVAILABLE */
  async catchUp(store: Datastore): Promise<void> {
    for (;;) {
      const rows = await store.all(
        `select e.seq, e.entry_id, e.spiffe_id, n.body, i.status, i.expires_at_ms
         from (select * from entry_events where seq > ? order by seq limit ?) e
         left join entries n on n.id = e.entry_id
         left join identities i on i.spiffe_id = e.spiffe_id order by e.seq`,
        this.#head.value,
        READ_AT_ONCE,
      );
      // Own commits have gone on meanwhile; what is newer than they are was read after them.
      const missing = rows.filter((row) => seqOf(row) > this.#head.value);
      const [first] = missing;
      if (first !== undefined && seqOf(first) > this.#head.value + 1n) return this.#reload(store);
      this.#follow(missing);
      if (rows.length < READ_AT_ONCE) return;
    }
  }

  /** Drops what no other server can still have to follow, but never the newest, which keeps the count. */
  async prune(tx: Transaction): Promise<void> {
    // Time never runs back here, so the rows before the first that is young enough are old.
    const row = await tx.get(
      'select seq from entry_events where at_ms >= ? order by seq limit 1',
      this.#options.clock.now().getTime() - KEEP_MS,
    );
    const first = row === undefined ? await newestSeq(tx) : seqOf(row);
    await tx.run('delete from entry_events where seq < ?', first);
  }

  #commit(numbered: readonly { readonly change: RegistryChange; readonly seq: bigint }[]): void {
    const isNext = numbered[0]?.seq === this.#head.value + 1n;
    const last = numbered.at(-1)?.seq ?? 0n;
    const head = isNext ? last : this.#head.value;
    if (!isNext) {
      for (const { change, seq } of numbered)
        for (const part of partsOf(change)) this.#ahead.set(keyOf(part), seq);
    }
    const changes = numbered.flatMap(({ change }) => partsOf(change));
    this.#apply(changes, head);
  }

  #follow(rows: readonly Row[]): void {
    const last = rows.at(-1);
    if (last === undefined) return;
    const changes = rows.flatMap((row) => {
      const seq = seqOf(row);
      return changesOf(row).filter((change) => (this.#ahead.get(keyOf(change)) ?? 0n) <= seq);
    });
    this.#apply(changes, seqOf(last));
    for (const [key, seq] of this.#ahead) if (seq <= this.#head.value) this.#ahead.delete(key);
  }

  /** Whom a change concerns is asked before and after, for it may take what they had. */
  #apply(changes: readonly RegistryChange[], head: bigint): void {
    const { index } = this.#options;
    const concerned = () => (this.wakes.size === 0 ? NOBODY : index.concernedBy(changes));
    const before = concerned();
    for (const change of changes) {
      if (change.kind === 'entry' && change.entry !== undefined) index.put(change.entry);
      else if (change.kind === 'entry') index.remove(change.id);
      else if (change.kind === 'identity' && change.standing !== undefined)
        index.setStanding(change.spiffeId, change.standing);
    }
    if (changes.some(({ kind }) => kind === 'any')) this.wakes.wakeAll();
    else {
      const agents = changes.flatMap((change) => (change.kind === 'agent' ? change.id : []));
      this.wakes.wake([before, concerned(), { ids: new Set(agents), aliases: [] }]);
    }
    if (head > this.#head.value) this.#head.set(head);
  }

  /** Only after a day without the store, when what came meanwhile is told of no more. */
  async #reload(store: Datastore): Promise<void> {
    const { index } = this.#options;
    const seq = await newestSeq(store);
    const standings = await gathered(loadStandings(store));
    const entries = await gathered(loadEntries(store));
    if (seq < this.#head.value) return;
    index.replace(entries, standings);
    this.#ahead.clear();
    this.#head.set(seq);
    this.wakes.wakeAll();
  }
}

async function gathered<T>(source: AsyncIterable<readonly T[]>): Promise<T[]> {
  const all: T[] = [];
  for await (const some of source) all.push(...some);
  return all;
}

async function newestSeq(reader: Reader): Promise<bigint> {
  const row = await reader.get('select coalesce(max(seq), 0) as seq from entry_events');
  return row === undefined ? 0n : seqOf(row);
}

function seqOf(row: Row): bigint {
  return BigInt(integer(row, 'seq'));
}

function entryIdOf(change: RegistryChange): string {
  return change.kind === 'entry' ? change.id : '';
}

function spiffeIdOf(change: RegistryChange): string {
  if (change.kind === 'identity') return change.spiffeId;
  if (change.kind === 'entry') return change.identity?.spiffeId ?? '';
  return change.kind === 'agent' ? change.id : '';
}

/** A change of an entry apart from that of its identity, which comes first: an entry needs it. */
function partsOf(change: RegistryChange): RegistryChange[] {
  if (change.kind !== 'entry' || change.identity === undefined) return [change];
  return [change.identity, { kind: 'entry', id: change.id, entry: change.entry }];
}

function keyOf(part: RegistryChange): string {
  return `${entryIdOf(part)} ${spiffeIdOf(part)}`;
}

/** What a row of the log says of the store as it stands: it may be ahead of the row, never behind it. */
function changesOf(row: Row): RegistryChange[] {
  const id = text(row, 'entry_id');
  const spiffeId = text(row, 'spiffe_id');
  if (id === '' && spiffeId === '') return [{ kind: 'any' }];
  const changes: RegistryChange[] = [];
  if (row.status !== null) {
    const isActive = text(row, 'status') === 'active';
    const standing = { isActive, expiresAtMs: integer(row, 'expires_at_ms') };
    changes.push({ kind: 'identity', spiffeId, standing });
  } else if (id === '') changes.push({ kind: 'agent', id: spiffeId });
  if (id !== '') {
    const entry = row.body === null ? undefined : fromBinary(EntrySchema, blob(row, 'body'));
    changes.push({ kind: 'entry', id, entry });
  }
  return changes;
}
