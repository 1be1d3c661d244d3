import type { SpiffeId } from '../../identity/spiffe-id.ts';
import type { VerifiedSvid } from '../../identity/verify.ts';
import type { Reader, Row } from '../plugins/datastore/datastore.ts';
import { integer, optionalText, text } from '../plugins/datastore/row.ts';
import { type Refusal, refusal } from './refusal.ts';

/** What a client has proved to hold: of a certificate that verifies, what the ledger knows it by. */
export interface Credential {
  readonly kind: keyof typeof NAMES;
  readonly id: SpiffeId;
  /** X.509: lower-case hex; SSH: decimal. */
  readonly serial: string;
  readonly notAfter: Date;
}

/** What each kind of the ledger's is called in front of a client. */
const NAMES = { x509: 'X509-SVID', 'ssh-user': 'SSH certificate' } as const;

/** Who stands behind a certificate that verifies: what the ledger and the registry know of it. */
export interface Holder {
  readonly spiffeId: string;
  readonly serial: string;
  readonly entryId: string;
  readonly agentId: string;
  readonly owner: string;
  readonly purpose: string;
  readonly environment: string;
  /** The earliest end of the certificate, its entry and its identity record. */
  readonly endsAt: Date;
}

/** Resolves an X509-SVID; see `findCredentialHolder`. */
export function findHolder(
  reader: Reader,
  svid: VerifiedSvid,
  now: Date,
): Promise<Holder | Refusal> {
  return findCredentialHolder(reader, { ...svid, kind: 'x509' }, now);
}

/**
 * Resolves a certificate by kind and serial, and refuses it if anything it was issued on no longer
 * stands. What was revoked since it was issued stays so: an entry that has changed, or an agent that came
 * back, serves the certificates it has issued since. (A lock that was lifted is none.)
 */
export async function findCredentialHolder(
  reader: Reader,
  { kind, id, serial, notAfter }: Credential,
  now: Date,
): Promise<Holder | Refusal> {
  const row = await reader.get(
    `select l.spiffe_id, l.entry_id, l.agent_id, a.banned, e.id as entry_found,
            e.expires_at_ms as entry_end_ms, i.status, i.owner, i.purpose, i.environment,
            i.expires_at_ms as identity_end_ms,
            (l.revoked_at_ms is not null
             or exists (select 1 from revocations r
                        where r.at_ms >= l.issued_at_ms and r.cause <> 'lock.create'
                          and ((r.subject_kind = 'serial' and r.subject = l.serial)
                            or (r.subject_kind = 'entry_id' and r.subject = l.entry_id)
                            or (r.subject_kind = 'agent_id' and r.subject = l.agent_id)))
            ) as revoked
     from ledger l
     left join agents a on a.id = l.agent_id
     left join entries e on e.id = l.entry_id and e.spiffe_id = l.spiffe_id
     left join identities i on i.spiffe_id = l.spiffe_id
     where l.serial = ? and l.kind = ?`,
    serial,
    kind,
  );
  const spiffeId = id.toString();
  if (row === undefined || row.spiffe_id !== spiffeId || row.entry_id === null) {
    return refusal('serial.unknown', `this ${NAMES[kind]} was not issued for a workload here`);
  }
  const ended = whyEnded(row, kind, now);
  if (ended !== undefined) return ended;
  const entryEnd = integer(row, 'entry_end_ms');
  const ends = [notAfter.getTime(), integer(row, 'identity_end_ms')];
  if (entryEnd > 0) ends.push(entryEnd);
  return {
    spiffeId,
    serial,
    entryId: text(row, 'entry_id'),
    agentId: text(row, 'agent_id'),
    owner: text(row, 'owner'),
    purpose: text(row, 'purpose'),
    environment: text(row, 'environment'),
    endsAt: new Date(Math.min(...ends)),
  };
}

function whyEnded(row: Row, kind: Credential['kind'], now: Date): Refusal | undefined {
  if (row.banned === null) return refusal('agent.gone', 'the agent of this identity is gone');
  if (row.banned !== 0) return refusal('agent.banned', 'the agent of this identity is banned');
  if (row.entry_found === null) {
    return refusal('entry.gone', 'the entry of this identity was deleted');
  }
  if (hasPassed(row, 'entry_end_ms', now)) {
    return refusal('entry.expired', 'the entry of this identity has expired');
  }
  if (row.status !== 'active') {
    const status = optionalText(row, 'status') ?? 'not recorded';
    return refusal('identity.inactive', `this identity is ${status}`);
  }
  if (hasPassed(row, 'identity_end_ms', now)) {
    return refusal('identity.expired', 'this identity has expired');
  }
  if (row.revoked !== 0) {
    return refusal('serial.revoked', `this ${NAMES[kind]} was revoked: fetch a new one`);
  }
  return undefined;
}

function hasPassed(row: Row, column: string, now: Date): boolean {
  const end = integer(row, column);
  return end > 0 && end <= now.getTime();
}
