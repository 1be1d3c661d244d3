import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { AuditLog, EventInit } from '../audit/audit-log.ts';
import type { Transaction } from '../plugins/datastore/datastore.ts';
import type { SshKind } from './authority-rows.ts';

/** What the trust domain signs, as the ledger tells it apart. */
export type IssuedKind = 'x509' | 'jwt' | 'agent' | 'server' | SshKind;

/** Something that was signed, and for whom. */
export interface Issued {
  readonly kind: IssuedKind;
  readonly serial: string;
  /** '' for the host certificate of a backend's target. */
  readonly spiffeId: string;
  readonly entryId: string | undefined;
  readonly agentId: string | undefined;
  /** Who signed it. */
  readonly authorityId: string;
  readonly issuedAt: Date;
  readonly notAfter: Date;
  /** Its type, its actor and what else it tells; the rest is set here. */
  readonly event: EventInit;
}

export interface Ledger {
  readonly audit: AuditLog;
  /** Told of each thing that was issued once it is committed. */
  onIssued(kind: IssuedKind): void;
}

/** Writes the row and the event of something that was signed: once they are committed it may be given out. */
export async function recordIssued(
  tx: Transaction,
  ledger: Ledger,
  { event, ...issued }: Issued,
): Promise<void> {
  const { kind, serial, spiffeId, entryId, agentId, authorityId, issuedAt, notAfter } = issued;
  await tx.run(
    `insert into ledger
       (serial, kind, spiffe_id, entry_id, agent_id, issued_at_ms, not_after_ms, authority_id)
     values (?, ?, ?, ?, ?, ?, ?, ?)`,
    serial,
    kind,
    spiffeId,
    entryId ?? null,
    agentId ?? null,
    issuedAt.getTime(),
    notAfter.getTime(),
    authorityId,
  );
  await ledger.audit.append(tx, {
    ...event,
    outcome: Outcome.SUCCESS,
    spiffeId,
    svidSerial: serial,
    entryId: entryId ?? '',
    agentId: agentId ?? '',
    attributes: { ...event.attributes, kind, not_after: notAfter.toISOString() },
  });
  tx.afterCommit(() => ledger.onIssued(kind));
}
