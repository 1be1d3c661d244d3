/** The leaves that are revoked before they end, as the ledger marks them. */
import { CRL_REASON, type CrlReason, type RevokedSerial } from '../../identity/x509/crl.ts';
import type { Reader, Transaction } from '../plugins/datastore/datastore.ts';
import { integer, text } from '../plugins/datastore/row.ts';

/** What of a revocation says which leaves it ends. */
export interface LeafRevocation {
  readonly subject: { readonly kind: string; readonly value: string };
  readonly cause: string;
}

/** A revoked leaf, and the authority that signed it; '' if that is not known. */
export interface RevokedLeaf extends RevokedSerial {
  readonly authorityId: string;
}

/** The columns that a leaf is revoked by; what is not here ends sessions alone. */
const COLUMNS: ReadonlyMap<string, readonly string[]> = new Map([
  ['serial', ['serial']],
  ['entry_id', ['entry_id']],
  ['spiffe_id', ['spiffe_id']],
  // An agent's own are under its SPIFFE ID.
  ['agent_id', ['agent_id', 'spiffe_id']],
]);

/** A lock ends sessions and opens none; who lifts it has the certificates as they were. */
const ENDS_NO_LEAF: ReadonlySet<string> = new Set(['lock.create']);

const REASONS: ReadonlyMap<string, CrlReason> = new Map([
  ['identity.suspend', CRL_REASON.certificateHold],
  ['identity.retire', CRL_REASON.cessationOfOperation],
  ['identity.expired', CRL_REASON.cessationOfOperation],
  ['entry.delete', CRL_REASON.cessationOfOperation],
  ['entry.expired', CRL_REASON.cessationOfOperation],
  ['entry.update', CRL_REASON.superseded],
  ['agent.ban', CRL_REASON.privilegeWithdrawn],
  ['agent.evict', CRL_REASON.cessationOfOperation],
]);

/** As the indexes of the ledger have it. */
const IS_LEAF = `kind in ('x509', 'agent', 'server')`;

/**
 * Marks the leaves that a revocation ends, in its transaction. One that is held back is marked again by
 * what holds for good.
 */
export async function revokeLeaves(
  tx: Transaction,
  { subject, cause }: LeafRevocation,
  now: Date,
): Promise<void> {
  if (ENDS_NO_LEAF.has(cause)) return;
  const reason = REASONS.get(cause) ?? CRL_REASON.unspecified;
  const isOpen =
    reason === CRL_REASON.certificateHold
      ? 'revoked_at_ms is null'
      : `(revoked_at_ms is null or revocation_reason = ${CRL_REASON.certificateHold})`;
  for (const column of COLUMNS.get(subject.kind) ?? []) {
    await tx.run(
      `update ledger set revoked_at_ms = ?, revocation_reason = ?
       where ${column} = ? and ${IS_LEAF} and not_after_ms > ? and ${isOpen}`,
      now.getTime(),
      reason,
      subject.value,
      now.getTime(),
    );
  }
}

/** Gives back the leaves of an identity that were held back alone: it is active again. */
export async function releaseLeaves(tx: Transaction, spiffeId: string): Promise<void> {
  await tx.run(
    `update ledger set revoked_at_ms = null, revocation_reason = null
     where spiffe_id = ? and ${IS_LEAF} and revocation_reason = ?`,
    spiffeId,
    CRL_REASON.certificateHold,
  );
}

/** The revoked leaves that end after `since`, by serial; at most `maximum`. */
export async function listRevokedLeaves(
  reader: Reader,
  since: Date,
  maximum: number,
): Promise<RevokedLeaf[]> {
  const rows = await reader.all(
    `select serial, authority_id, revoked_at_ms, revocation_reason from ledger
     where revoked_at_ms is not null and not_after_ms > ? order by serial limit ?`,
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
