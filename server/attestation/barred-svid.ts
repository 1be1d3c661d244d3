import type { VerifiedSvid } from '../../identity/verify.ts';
import { isLocked } from '../access/locks.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { optionalText } from '../plugins/datastore/row.ts';

/** Whether an X509-SVID was issued here and revoked since, or a lock names its identity or agent. */
export async function isSvidBarred(
  reader: Reader,
  { id, serial }: Pick<VerifiedSvid, 'id' | 'serial'>,
  now: Date,
): Promise<boolean> {
  const row = await reader.get(
    `select agent_id, revoked_at_ms from ledger where serial = ? and kind = 'x509'`,
    serial,
  );
  if (row !== undefined && row.revoked_at_ms !== null) return true;
  const agentId = row && optionalText(row, 'agent_id');
  const subject = { spiffeId: id.toString(), ...(agentId !== undefined && { agentId }) };
  return (await isLocked(reader, subject, now)) !== undefined;
}
