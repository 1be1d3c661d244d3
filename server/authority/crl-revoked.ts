/** The leaves that are revoked before they end, as the ledger marks them. */
import { CRL_REASON, type CrlReason, type RevokedSerial } from '../../identity/x509/crl.ts';
import type { Reader, Transaction } from '../plugins/datastore/datastore.ts';
import { integer, text } from '../plugins/datastore/row.ts';

/** What of a revocation says which leaves it ends. */
export interface LeafRevocation {
  readonly subject: { readonly kind: string; readonly value: string };
  readonly cause: string;
}

/** A leaf that a list is to name, and the authority that signed it; '' if that is not known. */
export interface RevokedLeaf extends RevokedSerial {
  readonly authorityId: string;
}

/** The columns that a leaf is revoked by; what is not here ends sessions alone. */
export const LEAF_COLUMNS: ReadonlyMap<string, readonly string[]> = new Map([
  ['serial', ['serial']],
  ['entry_id', ['entry_id']],
  ['spiffe_id', ['spiffe_id']],
  // An agent's own are under its SPIFFE ID.
  ['agent_id', ['agent_id', 'spiffe_id']],
]);

/** A lock holds leaves back as long as it is in force, so it marks none. */
const ENDS_NO_LEAF: ReadonlySet<string> = new Set(['lock.create']);

const REASONS: ReadonlyMap<string, CrlReason> = new Map([
  ['identity.suspend', CRL_REASON.privilegeWithdrawn],
  ['identity.retire', CRL_REASON.cessationOfOperation],
  ['identity.expired', CRL_REASON.cessationOfOperation],
  ['entry.delete', CRL_REASON.cessationOfOperation],
  ['entry.expired', CRL_REASON.cessationOfOperation],
  ['entry.update', CRL_REASON.superseded],
  ['agent.ban', CRL_REASON.privilegeWithdrawn],
  ['agent.evict', CRL_REASON.cessationOfOperation],
]);

/** As the indexes of the ledger have it. */
export const IS_LEAF = `kind in ('x509', 'agent', 'server')`;

/** Marks the leaves that a revocation ends, for good, in its transaction. */
export async function revokeLeaves(
  tx: Transaction,
  { subject, cause }: LeafRevocation,
  now: Date,
): Promise<void> {
  if (ENDS_NO_LEAF.has(cause)) return;
  const reason = REASONS.get(cause) ?? CRL_REASON.unspecified;
  for (const column of LEAF_COLUMNS.get(subject.kind) ?? []) {
    await tx.run(
      `update ledger set revoked_at_ms = ?, revocation_reason = ?
       where ${column} = ? and ${IS_LEAF} and not_after_ms > ? and revoked_at_ms is null`,
      now.getTime(),
      reason,
      subject.value,
      now.getTime(),
    );
  }
}

/** The revoked leaves that end after `since`; at most `maximum`, those first that live longest. */
export async function listRevokedLeaves(
  reader: Reader,
  since: Date,
  maximum: number,
): Promise<RevokedLeaf[]> {
  const rows = await reader.all(
    `select serial, authority_id, revoked_at_ms, revocation_reason from ledger
     where revoked_at_ms is not null and not_after_ms > ?
     order by not_after_ms desc, serial limit ?`,
    since.getTime(),
    maximum,
  );
  return rows.map((row) => ({
    serial: text(row, 'serial'),
    authorityId: text(row, 'authority_id'),
    revokedAt: new Date(integer(row, 'revoked_at_ms')),
    reason: integer(row, 'revocation_reason') as CrlReason,
  }));
}
