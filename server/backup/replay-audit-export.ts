import { timestampDate } from '@bufbuild/protobuf/wkt';
import { CHAIN_START, type ChainHead, leafHash } from '../../runtime/hash-chain.ts';
import type { SqlValue, Transaction } from '../plugins/datastore/datastore.ts';
import { blob, integer } from '../plugins/datastore/row.ts';
import { type ExportedEvent, readAuditExport } from './audit-export.ts';
import { Replay, type ReplayOptions } from './replay-events.ts';

const ROWS_AT_ONCE = 500;
const COLUMNS = ['seq', 'at_ms', 'writer', 'writer_seq', 'type', 'body', 'leaf_hash', 'hash'];

export interface Replayed {
  /** How many events the export has beyond the backup. */
  readonly events: number;
  /** Of the log with them. */
  readonly head: ChainHead;
  /** How many changes of each type the export tells of without what they changed. */
  readonly unknown: ReadonlyMap<string, number>;
}

/**
 * Lets the log of a store that was filled from a backup go on with an export's events, and ends what they
 * say has ended.
 * @param chunks untrusted
 * @throws Fault FAILED_PRECONDITION if it does not verify, or does not fit
 */
export async function replayAuditExport(
  options: ReplayOptions,
  chunks: AsyncIterable<Uint8Array>,
): Promise<Replayed> {
  const { tx } = options;
  const replay = new Replay(options);
  const start = await headOf(tx);
  let head = start;
  let rows: SqlValue[][] = [];
  const flush = async () => {
    await tx.insertMany({ table: 'audit_events', columns: COLUMNS, rows });
    rows = [];
  };
  for await (const exported of readAuditExport(chunks, start)) {
    rows.push(rowOf(exported));
    head = { seq: exported.event.seq, hash: exported.sealed.hash };
    await replay.apply(exported.event);
    if (rows.length === ROWS_AT_ONCE) await flush();
  }
  if (rows.length > 0) await flush();
  return { events: Number(head.seq - start.seq), head, unknown: replay.unknown };
}

async function headOf(tx: Transaction): Promise<ChainHead> {
  const row = await tx.get('select seq, hash from audit_events order by seq desc limit 1');
  if (row === undefined) return CHAIN_START;
  return { seq: BigInt(integer(row, 'seq')), hash: blob(row, 'hash') };
}

function rowOf({ event, sealed: { body, hash } }: ExportedEvent): SqlValue[] {
  const { seq, at, writer, writerSeq, type } = event;
  const atMs = at === undefined ? 0 : timestampDate(at).getTime();
  return [seq, atMs, writer, writerSeq, type, body, leafHash(body), hash];
}
