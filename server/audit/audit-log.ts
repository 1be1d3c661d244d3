import { hash as digestOf } from 'node:crypto';
import { setImmediate as breathe } from 'node:timers/promises';
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { timestampDate, timestampFromDate } from '@bufbuild/protobuf/wkt';
import {
  type Event,
  EventSchema,
  Outcome,
  type SealedEvent,
  SealedEventSchema,
} from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { Watched, type WatchedSource } from '../../runtime/watched.ts';
import type { Reader, SqlValue, Transaction } from '../plugins/datastore/datastore.ts';
import { blob, integer } from '../plugins/datastore/row.ts';
import { type EventInit, OwnEvents, type Position } from './own-events.ts';

export type { EventInit } from './own-events.ts';

type EventMessageInit = MessageInitShape<typeof EventSchema>;

/** Which part of the log to read. */
export interface EventRange {
  readonly afterSeq: bigint;
  readonly limit: number;
}

const SERVER = 'server';
const MAXIMUM_BODY_BYTES = 64 * 1024;
const TYPE = /^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*){1,5}$/;
const BEFORE_THE_FIRST = new Uint8Array(32);
/** Events between two looks at what else there is to do: a few milliseconds. */
const EVENTS_AT_ONCE = 100;
const COLUMNS = [...['seq', 'at_ms', 'writer', 'writer_seq', 'type', 'body', 'leaf_hash', 'hash']];

/** Who writes events, and how. */
interface Writing {
  readonly writer: string;
  /** Of the writer's last event so far. */
  readonly writerSeq: bigint;
  readonly atMs: number;
  /** The bytes of which the leaf is the hash: LEAF, then the event. */
  leaf(event: EventInit, position: Position): Uint8Array;
}

/** Where the log ends. */
interface Tip {
  readonly seq: bigint;
  readonly hash: Uint8Array;
}

/**
 * The hash-chained log of all that was done or refused. An event is a row of the transaction of the
 * act it tells, so an act whose event cannot be written does not happen.
 */
export class AuditLog {
  readonly #store: Reader;
  readonly #clock: Clock;
  readonly #head = new Watched(0n);
  /** What a transaction has appended itself; nobody else appends meanwhile. */
  readonly #tips = new WeakMap<Transaction, Tip>();
  readonly #ownSeqs = new WeakMap<Transaction, bigint>();

  constructor(store: Reader, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  /** Position of the newest committed event, 0 if there is none. */
  get head(): WatchedSource<bigint> {
    return this.#head;
  }

  /** Takes the head over from the store: before anybody reads, and when others may have appended. */
  async load(): Promise<void> {
    this.#advance((await tip(this.#store)).seq);
  }

  /** Writes the server's own events. */
  async append(tx: Transaction, ...events: readonly EventInit[]): Promise<void> {
    const at = this.#clock.now();
    const writerSeq = this.#ownSeqs.get(tx) ?? (await lastWriterSeq(tx, SERVER));
    const own = new OwnEvents({ writer: SERVER, at });
    await this.#chain(tx, events, {
      ...{ writer: SERVER, writerSeq, atMs: at.getTime() },
      leaf: (event, position) => own.encode(LEAF, event, position),
    });
    this.#ownSeqs.set(tx, writerSeq + BigInt(events.length));
  }

  /**
   * Takes over another writer's events, sent at least once: what the log has already is dropped, a gap
   * in the writer's count becomes an event `audit.gap`.
   * @param writer SPIFFE ID, authenticated
   * @param events untrusted, in the writer's order
   * @returns the last of the writer's positions that the log holds
   * @throws Fault INVALID_ARGUMENT
   */
  async appendFrom(tx: Transaction, writer: string, events: readonly Event[]): Promise<bigint> {
    const received = this.#clock.now();
    let last = await lastWriterSeq(tx, writer);
    for (const event of events) {
      if (event.writerSeq <= last) continue;
      if (event.writerSeq > last + 1n) await this.append(tx, gap(writer, last, event.writerSeq));
      await this.#chain(tx, [event], {
        ...{ writer, writerSeq: event.writerSeq - 1n, atMs: received.getTime() },
        leaf: (_, { seq }) => foreignLeaf({ ...stampForeign(event, writer, received), seq }),
      });
      last = event.writerSeq;
    }
    return last;
  }

  /** Sealed events in order; committed ones alone. */
  async read({ afterSeq, limit }: EventRange): Promise<SealedEvent[]> {
    // The row before the first one is read along for its hash.
    const rows = await this.#store.all(
      'select seq, body, hash from audit_events where seq >= ? order by seq limit ?',
      afterSeq,
      limit + 1,
    );
    const before = afterSeq === 0n ? undefined : rows.shift();
    let previousHash = before === undefined ? BEFORE_THE_FIRST : blob(before, 'hash');
    return rows.slice(0, limit).map((row) => {
      const hash = blob(row, 'hash');
      const sealed = create(SealedEventSchema, { body: blob(row, 'body'), previousHash, hash });
      previousHash = hash;
      return sealed;
    });
  }

  async #chain(tx: Transaction, events: readonly EventInit[], of: Writing): Promise<void> {
    let { seq, hash } = this.#tips.get(tx) ?? (await tip(tx));
    let { writerSeq } = of;
    const rows: SqlValue[][] = [];
    for (const event of events) {
      if (rows.length % EVENTS_AT_ONCE === EVENTS_AT_ONCE - 1) await breathe();
      seq += 1n;
      writerSeq += 1n;
      const type = checkedType(event.type);
      const leaf = of.leaf(event, { seq, writerSeq });
      if (leaf.length > MAXIMUM_BODY_BYTES + 1)
        throw new Fault('INVALID_ARGUMENT', `audit event of more than ${MAXIMUM_BODY_BYTES} bytes`);
      const leafHash = digestOf('sha256', leaf, 'buffer');
      hash = linked(hash, leafHash);
      rows.push([seq, of.atMs, of.writer, writerSeq, type, leaf.subarray(1), leafHash, hash]);
    }
    this.#tips.set(tx, { seq, hash });
    await tx.insertMany({ table: 'audit_events', columns: COLUMNS, rows });
    tx.afterCommit(() => this.#advance(seq));
  }

  #advance(seq: bigint): void {
    if (seq > this.#head.value) this.#head.set(seq);
  }
}

function checkedType(type = ''): string {
  if (TYPE.test(type)) return type;
  throw new Fault('INVALID_ARGUMENT', `audit event type ${JSON.stringify(type.slice(0, 80))}`);
}

function foreignLeaf(event: EventMessageInit): Uint8Array {
  return Buffer.concat([Uint8Array.of(LEAF), toBinary(EventSchema, create(EventSchema, event))]);
}

/** The server's clock tells the order of events (threats S1); the writer's own time stays readable. */
function stampForeign(event: Event, writer: string, received: Date): EventInit {
  const attributes = { ...event.attributes };
  if (event.at !== undefined) attributes.writer_time = timestampDate(event.at).toISOString();
  return { ...event, at: timestampFromDate(received), writer, attributes };
}

function gap(writer: string, last: bigint, next: bigint): EventInit {
  return {
    type: 'audit.gap',
    outcome: Outcome.FAILURE,
    actor: { kind: 'gateway', spiffeId: writer },
    reason: 'events of this writer are missing',
    attributes: { first_missing: String(last + 1n), last_missing: String(next - 1n) },
  };
}

async function tip(reader: Reader): Promise<Tip> {
  const row = await reader.get('select seq, hash from audit_events order by seq desc limit 1');
  if (row === undefined) return { seq: 0n, hash: BEFORE_THE_FIRST };
  return { seq: BigInt(integer(row, 'seq')), hash: blob(row, 'hash') };
}

async function lastWriterSeq(reader: Reader, writer: string): Promise<bigint> {
  const row = await reader.get(
    'select coalesce(max(writer_seq), 0) as n from audit_events where writer = ?',
    writer,
  );
  return row === undefined ? 0n : BigInt(integer(row, 'n'));
}

/** What is hashed for a leaf begins with the first, for a link of the chain with the second. */
const LEAF = 0;
const LINK = 1;

function linked(before: Uint8Array, leafHash: Uint8Array): Uint8Array {
  const bytes = Buffer.allocUnsafe(1 + before.length + leafHash.length);
  bytes[0] = LINK;
  bytes.set(before, 1);
  bytes.set(leafHash, 1 + before.length);
  return digestOf('sha256', bytes, 'buffer');
}
