import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { AuditLog, EventInit } from '../audit/audit-log.ts';
import type { SqlValue, Transaction } from '../plugins/datastore/datastore.ts';
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

const COLUMNS = [
  ...['serial', 'kind', 'spiffe_id', 'entry_id', 'agent_id', 'issued_at_ms', 'not_after_ms'],
  'authority_id',
];

/** Writes the rows and the events of what was signed: once they are committed it may be given out. */
export async function recordIssued(
  tx: Transaction,
  ledger: Ledger,
  issued: readonly Issued[],
): Promise<void> {
  await tx.insertMany({ table: 'ledger', columns: COLUMNS, rows: issued.map(ledgerRow) });
  const ends = new Map<number, string>();
  await ledger.audit.append(tx, ...issued.map((one) => issuedEvent(one, ends)));
  tx.afterCommit(() => {
    for (const { kind } of issued) ledger.onIssued(kind);
  });
}

function ledgerRow(issued: Issued): SqlValue[] {
  const { kind, serial, spiffeId, entryId, agentId, authorityId, issuedAt, notAfter } = issued;
  const times = [issuedAt.getTime(), notAfter.getTime()];
  return [serial, kind, spiffeId, entryId ?? null, agentId ?? null, ...times, authorityId];
}

/** @param ends texts of the ends so far: what is issued together mostly ends together */
function issuedEvent(issued: Issued, ends: Map<number, string>): EventInit {
  const { event, kind, serial, spiffeId, entryId = '', agentId = '', notAfter } = issued;
  const end = ends.get(notAfter.getTime()) ?? notAfter.toISOString();
  ends.set(notAfter.getTime(), end);
  return {
    ...event,
    outcome: Outcome.SUCCESS,
    spiffeId,
    svidSerial: serial,
    entryId,
    agentId,
    attributes: { ...event.attributes, kind, not_after: end },
  };
}
