import type { Reader } from '../plugins/datastore/datastore.ts';
import { integer } from '../plugins/datastore/row.ts';

/**
 * How many agents but one hold credentials of an identity that are live and not revoked. What an agent
 * holds that is banned or gone does not count; nor does what an operator minted, which no agent holds.
 */
export async function countOtherHolders(
  reader: Reader,
  { spiffeId, agentId }: { readonly spiffeId: string; readonly agentId: string },
  now: Date,
): Promise<number> {
  const row = await reader.get(
    `select count(distinct l.agent_id) as n from ledger l
     join agents a on a.id = l.agent_id and a.banned = 0
     where l.spiffe_id = ? and l.not_after_ms > ? and l.agent_id <> ?
       and l.kind in ('x509', 'jwt', 'ssh-user') and l.revoked_at_ms is null
       and not exists (select 1 from revocations r
                       where r.at_ms >= l.issued_at_ms and r.cause <> 'lock.create'
                         and ((r.subject_kind = 'serial' and r.subject = l.serial)
                           or (r.subject_kind = 'entry_id' and r.subject = l.entry_id)
                           or (r.subject_kind = 'agent_id' and r.subject = l.agent_id)))`,
    spiffeId,
    now.getTime(),
    agentId,
  );
  return row === undefined ? 0 : integer(row, 'n');
}
