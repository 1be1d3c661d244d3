import type { Reader } from '../plugins/datastore/datastore.ts';
import { integer } from '../plugins/datastore/row.ts';
import type { AgentRecord } from './agent-records.ts';

/** A call that was under way when the agent began to use its next SVID may come in as late as this. */
const UNDER_WAY_MS = 10_000;

/**
 * Whether an SVID that is not its agent's current one shows that somebody else has the agent's key: the
 * agent itself has used a later one for a while. One that the ledger lacks, such as after a restore from
 * a backup, shows nothing.
 */
export async function isSupersededForLong(
  reader: Reader,
  { id, currentSince }: Pick<AgentRecord, 'id' | 'currentSince'>,
  serial: string,
  now: Date,
): Promise<boolean> {
  if (now.getTime() - currentSince.getTime() < UNDER_WAY_MS) return false;
  const row = await reader.get(
    `select issued_at_ms from ledger where serial = ? and kind = 'agent' and spiffe_id = ?`,
    serial,
    id,
  );
  return row !== undefined && integer(row, 'issued_at_ms') < currentSince.getTime();
}
