import type { TrustDomain } from '../../identity/spiffe-id.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { SERVER_ACTOR } from '../access/actor.ts';
import { AuditLog } from '../audit/audit-log.ts';
import type { Datastore, SqlValue, Transaction } from '../plugins/datastore/datastore.ts';
import { SCHEMA_VERSION } from '../plugins/datastore/migrations.ts';
import type { KeyManager } from '../plugins/key-manager/key-manager.ts';
import { RESTORED_AT } from '../restored-lock.ts';
import { type BackupHead, type BackupLine, damaged, sqlValueOf } from './backup-format.ts';
import { readBackup } from './read-backup.ts';
import { type Replayed, replayAuditExport as replay } from './replay-audit-export.ts';
import { type BackedUpTable, tablesOf } from './tables.ts';

const ROWS_AT_ONCE = 500;
/** Counts in `meta` that others have seen higher values of than the backup has. */
const COUNTERS: ReadonlySet<string> = new Set([
  'bundle_sequence',
  'crl_number',
  'resource_revision',
]);
/** More than a server counts between a backup and its end. */
const RAISED_BY = 1_000_000_000;

export interface RestoreOptions {
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
  readonly keys: KeyManager;
  /** The audit log from before the backup's end on: what was revoked by it is revoked again. Untrusted. */
  readonly auditExport?: AsyncIterable<Uint8Array>;
  /** Opens the store, which has to be empty, with the schema of that version. */
  openStore(version: number): Promise<Datastore>;
}

export interface Restored {
  /** When the backup was taken. */
  readonly takenAt: string;
  /** What was done with an audit export. */
  readonly replayed: Replayed | undefined;
}

/**
 * Fills an empty store from a backup, whole or not at all. The server that starts on it is locked, tells
 * gateways every revocation anew, and goes on counting above what anybody has seen (threats M2).
 * @param chunks untrusted
 * @throws Fault STATE_UNUSABLE if the backup is damaged, of a newer program or another trust domain,
 *   FAILED_PRECONDITION if the store is not empty
 */
export async function restoreBackup(
  chunks: AsyncIterable<Uint8Array>,
  options: RestoreOptions,
): Promise<Restored> {
  const { trustDomain, keys, auditExport } = options;
  const { head, content } = await readBackup(chunks);
  if (head.trust_domain !== trustDomain)
    throw unusable(`the backup is of trust domain ${head.trust_domain}, not ${trustDomain}`);
  if (head.schema > SCHEMA_VERSION)
    throw unusable(
      `the backup has schema version ${head.schema}, this program knows ${SCHEMA_VERSION}: run the newer program`,
    );
  if (auditExport !== undefined && head.schema !== SCHEMA_VERSION)
    throw unusable(
      `the backup has schema version ${head.schema}, and an audit export is replayed into version ${SCHEMA_VERSION} alone`,
    );
  const imported: string[] = [];
  let replayed: Replayed | undefined;
  await using store = await options.openStore(head.schema);
  try {
    await store.transaction(async (tx) => {
      if ((await tx.get('select 1 as found from meta limit 1')) !== undefined)
        throw new Fault('FAILED_PRECONDITION', 'the store is not empty: restore into a new one');
      for await (const { key: id, pem } of fill(tx, tablesOf(head.schema), content)) {
        if (keys.importKey === undefined)
          throw new Fault('FAILED_PRECONDITION', `key manager ${keys.type} takes no keys over`);
        await keys.importKey(id, pem);
        imported.push(id);
      }
      await raiseEmpty(tx, options.clock);
      if (auditExport !== undefined)
        replayed = await replay({ ...options, store, tx }, auditExport);
      await lock(tx, store, head, { clock: options.clock, replayed });
    });
  } catch (error) {
    for (const id of imported) await keys.remove(id);
    throw error;
  }
  return { takenAt: head.taken_at, replayed };
}

type Key = Extract<BackupLine, { key: string }>;

/** Writes the rows, and yields the keys that come after them. */
async function* fill(
  tx: Transaction,
  tables: readonly BackedUpTable[],
  content: AsyncIterable<Exclude<BackupLine, { format: string } | { lines: number }>>,
): AsyncGenerator<Key> {
  let table: { readonly of: BackedUpTable; readonly columns: readonly string[] } | undefined;
  let rows: SqlValue[][] = [];
  let number = 1;
  const flush = async () => {
    if (table !== undefined && rows.length > 0)
      await tx.insertMany({ table: table.of.name, columns: table.columns, rows });
    rows = [];
  };
  for await (const line of content) {
    number += 1;
    if ('row' in line) {
      if (table === undefined || line.row.length !== table.columns.length) throw damaged(number);
      rows.push(raised(table, line.row.map(sqlValueOf)));
      if (rows.length === ROWS_AT_ONCE) await flush();
      continue;
    }
    await flush();
    if ('key' in line) {
      yield line;
      continue;
    }
    const known = tables.find(({ name }) => name === line.table);
    if (known === undefined) throw damaged(number);
    table = { of: known, columns: line.columns };
  }
  await flush();
}

function raised(
  table: { readonly of: BackedUpTable; readonly columns: readonly string[] },
  row: SqlValue[],
): SqlValue[] {
  const { name, numbered } = table.of;
  if (numbered !== undefined) {
    const at = table.columns.indexOf(numbered);
    row[at] = Number(row[at]) + RAISED_BY;
  }
  if (name === 'meta' && COUNTERS.has(String(row[table.columns.indexOf('key')]))) {
    const at = table.columns.indexOf('value');
    row[at] = String(Number(row[at]) + RAISED_BY);
  }
  return row;
}

/** Where the backup has no row to raise, others may have seen rows that came after it. */
async function raiseEmpty(tx: Transaction, clock: Clock): Promise<void> {
  const at = clock.now().getTime();
  await tx.run(
    `insert into revocations (seq, at_ms, subject_kind, subject, cause, reason)
     select ?, ?, 'session_id', '', 'server.restore', 'the server was restored'
     where not exists (select 1 from revocations)`,
    ...[RAISED_BY, at],
  );
  await tx.run(
    `insert into entry_events (seq, at_ms, entry_id)
     select ?, ?, '' where not exists (select 1 from entry_events)`,
    ...[RAISED_BY, at],
  );
}

async function lock(
  tx: Transaction,
  store: Datastore,
  head: BackupHead,
  { clock, replayed }: { readonly clock: Clock; readonly replayed: Replayed | undefined },
): Promise<void> {
  await tx.run(
    `insert into meta (key, value) values (?, ?)
     on conflict (key) do update set value = excluded.value`,
    RESTORED_AT,
    clock.now().toISOString(),
  );
  await new AuditLog(store, clock).append(tx, {
    ...{ type: 'server.restored', outcome: Outcome.SUCCESS, actor: SERVER_ACTOR },
    attributes: {
      ...{ taken_at: head.taken_at, schema: String(head.schema) },
      ...(replayed && { replayed_events: String(replayed.events) }),
    },
  });
}

function unusable(message: string): Fault {
  return new Fault('STATE_UNUSABLE', message);
}
