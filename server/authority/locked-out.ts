import { Fault } from '../../runtime/fault.ts';
import type { SqlValue, Transaction } from '../plugins/datastore/datastore.ts';
import { integer } from '../plugins/datastore/row.ts';

/** Agents get that long after the taint to replace what they hold; who has not by then is gone. */
const PATIENCE_MS = 5 * 60 * 1000;

/**
 * Refuses to withdraw X.509 authorities on which agents still depend: one that cannot attest again, as after
 * a join token, would be locked out for good. One that can needs to have heard of the taint, which it
 * shows by having its workloads' SVIDs made anew: its own follows by an attestation, which asks for none.
 * @throws Fault FAILED_PRECONDITION
 */
export async function refuseLockOut(
  tx: Transaction,
  ids: readonly string[],
  { taintedAt, now }: { readonly taintedAt: Date | undefined; readonly now: Date },
): Promise<void> {
  if (taintedAt !== undefined && now.getTime() >= taintedAt.getTime() + PATIENCE_MS) return;
  const count = await dependentAgents(tx, ids, { taintedAt: taintedAt ?? now, now });
  if (count === 0) return;
  const agents = count === 1 ? '1 agent holds an SVID' : `${count} agents hold SVIDs`;
  throw new Fault(
    'FAILED_PRECONDITION',
    `${agents} of this authority still, and would be locked out: wait until they have renewed, at most 5 minutes after the taint`,
  );
}

/** Agents whose SVID in use, and live, was signed by one of the authorities, and that need it. */
async function dependentAgents(
  tx: Transaction,
  ids: readonly string[],
  { taintedAt, now }: { readonly taintedAt: Date; readonly now: Date },
): Promise<number> {
  if (ids.length === 0) return 0;
  const places = ids.map(() => '?').join(', ');
  const parameters: SqlValue[] = [now.getTime(), ...ids, now.getTime(), taintedAt.getTime()];
  // Of what was issued before there was a column for it, nobody knows who signed it.
  const row = await tx.get(
    `select count(*) as agents from agents join ledger on ledger.serial = agents.serial
     where agents.banned = 0 and agents.not_after_ms > ?
       and (ledger.authority_id in (${places}) or ledger.authority_id = '')
       and not (agents.can_reattest = 1 and exists (
         select 1 from ledger as renewed
         where renewed.agent_id = agents.id and renewed.not_after_ms > ?
           and renewed.kind = 'x509' and renewed.issued_at_ms > ?))`,
    ...parameters,
  );
  return row === undefined ? 0 : integer(row, 'agents');
}
