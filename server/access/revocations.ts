import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
  type Revocation,
  RevocationSchema,
  type Subject,
} from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Watched, type WatchedSource } from '../../runtime/watched.ts';
import { revokeLeaves } from '../authority/crl-revoked.ts';
import type { Datastore, Row, Transaction } from '../plugins/datastore/datastore.ts';
import { integer, text } from '../plugins/datastore/row.ts';

/** What a revocation matches, and what is told of it. */
export interface RevocationInit {
  readonly subject: { readonly kind: SubjectKind; readonly value: string };
  /** What happened, e.g. `grant.delete`. */
  readonly cause: string;
  /** One sentence for the client. */
  readonly reason: string;
}

const SUBJECT_CASES = {
  session_id: 'sessionId',
  grant: 'grant',
  entry_id: 'entryId',
  spiffe_id: 'spiffeId',
  agent_id: 'agentId',
  serial: 'serial',
  backend: 'backend',
} as const;

type SubjectKind = keyof typeof SUBJECT_CASES;

/** Longest run of revocations that one read returns. */
export const REVOCATION_BATCH = 500;

/**
 * The log of all that ends live sessions. A row is written in the transaction of the act it follows
 * from; gateways read the rows in order of `seq`, which is the order of commits (one writer).
 */
export class Revocations {
  readonly #store: Datastore;
  readonly #clock: Clock;
  readonly #head = new Watched(0n);

  constructor(store: Datastore, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  /** The newest committed `seq`, 0 if there is none. */
  get head(): WatchedSource<bigint> {
    return this.#head;
  }

  /** Takes the head over from the store; once, before the first gateway is served. */
  async load(): Promise<void> {
    const row = await this.#store.get('select max(seq) as seq from revocations');
    if (row !== undefined && row.seq !== null) this.#advance(BigInt(integer(row, 'seq')));
  }

  /** Resolves with the row's `seq`; those who watch `head` wake once it is committed. */
  async revoke(tx: Transaction, init: RevocationInit): Promise<bigint> {
    await revokeLeaves(tx, init, this.#clock.now());
    const row = await tx.get(
      `insert into revocations (seq, at_ms, subject_kind, subject, cause, reason)
       values ((select coalesce(max(seq), 0) + 1 from revocations), ?, ?, ?, ?, ?) returning seq`,
      this.#clock.now().getTime(),
      init.subject.kind,
      init.subject.value,
      init.cause,
      init.reason,
    );
    if (row === undefined) throw new Error('an inserted revocation has no number');
    const seq = BigInt(integer(row, 'seq'));
    tx.afterCommit(() => this.#advance(seq));
    return seq;
  }

  /** The revocations after `seq` in order, at most `REVOCATION_BATCH`. */
  async since(seq: bigint): Promise<Revocation[]> {
    const rows = await this.#store.all(
      'select * from revocations where seq > ? order by seq limit ?',
      Number(seq),
      REVOCATION_BATCH,
    );
    return rows.map(revocationFromRow);
  }

  #advance(seq: bigint): void {
    if (seq > this.#head.value) this.#head.set(seq);
  }
}

function revocationFromRow(row: Row): Revocation {
  return create(RevocationSchema, {
    seq: BigInt(integer(row, 'seq')),
    at: timestampFromMs(integer(row, 'at_ms')),
    subject: { subject: subjectFromRow(row) },
    cause: text(row, 'cause'),
    reason: text(row, 'reason'),
  });
}

function subjectFromRow(row: Row): Subject['subject'] {
  const kind = text(row, 'subject_kind');
  const found = Object.entries(SUBJECT_CASES).find(([name]) => name === kind);
  if (found === undefined) throw new Error(`a revocation has the subject kind ${kind}`);
  return { case: found[1], value: text(row, 'subject') };
}
