/** Which entries federate with a trust domain: a table beside theirs, so that no one reads them all. */
import type { Entry } from '../../proto/gen/spire/api/types/entry_pb.ts';
import type { Reader, Transaction } from '../plugins/datastore/datastore.ts';
import { text } from '../plugins/datastore/row.ts';

/** Notes new entries. */
export async function addFederation(tx: Transaction, entries: readonly Entry[]): Promise<void> {
  const rows = entries.flatMap(({ id, federatesWith }) => federatesWith.map((name) => [name, id]));
  if (rows.length === 0) return;
  await tx.insertMany({ table: 'entry_federation', columns: ['trust_domain', 'entry_id'], rows });
}

/** Forgets what an entry says as it stands, before it is changed or deleted. */
export async function dropFederation(tx: Transaction, { id, federatesWith }: Entry): Promise<void> {
  if (federatesWith.length > 0) await tx.run('delete from entry_federation where entry_id = ?', id);
}

/** Ids of the entries that federate with a trust domain, in order. */
export async function federatedEntryIds(reader: Reader, trustDomain: string): Promise<string[]> {
  const rows = await reader.all(
    'select entry_id from entry_federation where trust_domain = ? order by entry_id',
    trustDomain,
  );
  return rows.map((row) => text(row, 'entry_id'));
}
