import type { SpiffeId } from '../../identity/spiffe-id.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Reader, Row } from '../plugins/datastore/datastore.ts';
import { instant, integer, text } from '../plugins/datastore/row.ts';

/** Every kind of holder a SPIFFE ID can have. */
export const IDENTITY_KINDS = ['service', 'ci', 'ai-agent', 'human-proxy'] as const;
export type IdentityKind = (typeof IDENTITY_KINDS)[number];

/** Suspended can become active again, retired cannot. */
export const IDENTITY_STATUSES = ['active', 'suspended', 'retired'] as const;
export type IdentityStatus = (typeof IDENTITY_STATUSES)[number];

/** Who owns a SPIFFE ID, what for and until when. */
export interface IdentityRecord {
  readonly spiffeId: string;
  readonly owner: string;
  readonly purpose: string;
  readonly environment: string;
  readonly kind: IdentityKind;
  readonly labels: Readonly<Record<string, string>>;
  readonly status: IdentityStatus;
  readonly expiresAt: Date;
  readonly createdAt: Date;
  /** Audiences that its JWT-SVIDs may name; empty: any. */
  readonly jwtAudiences: readonly string[];
  /** How many agents may hold credentials of it at a time; 0: any number. */
  readonly maxAgents: number;
}

/** The record of a SPIFFE ID, undefined if it has none. */
export async function identityFor(
  reader: Reader,
  spiffeId: SpiffeId | string,
): Promise<IdentityRecord | undefined> {
  const row = await reader.get('select * from identities where spiffe_id = ?', String(spiffeId));
  return row === undefined ? undefined : identityFromRow(row);
}

/** The records of many SPIFFE IDs, those that there are. */
export async function identitiesFor(
  reader: Reader,
  spiffeIds: Iterable<string>,
): Promise<Map<string, IdentityRecord>> {
  const keys = [...new Set(spiffeIds)].map((spiffeId) => [spiffeId]);
  const by = ['spiffe_id'];
  const rows = await reader.findMany({ table: 'identities', columns: COLUMNS, by, keys });
  return new Map(rows.map((row) => [text(row, 'spiffe_id'), identityFromRow(row)]));
}

const COLUMNS = [
  ...['spiffe_id', 'owner', 'purpose', 'environment', 'kind', 'labels', 'status'],
  ...['expires_at_ms', 'created_at_ms', 'jwt_audiences', 'max_agents'],
];

/** All records, by SPIFFE ID. */
export async function listIdentities(reader: Reader): Promise<IdentityRecord[]> {
  const rows = await reader.all('select * from identities order by spiffe_id');
  return rows.map(identityFromRow);
}

/** @throws Fault PERMISSION_DENIED unless the record is there, active and not expired */
export async function requireActive(
  reader: Reader,
  spiffeId: SpiffeId | string,
  now: Date,
): Promise<IdentityRecord> {
  return activeRecord(await identityFor(reader, spiffeId), now);
}

/** As `requireActive`, of a record that has been read. */
export function activeRecord(record: IdentityRecord | undefined, now: Date): IdentityRecord {
  if (record === undefined) throw denied('this identity is not recorded');
  if (record.status !== 'active') throw denied(`this identity is ${record.status}`);
  if (record.expiresAt <= now) throw denied('this identity has expired');
  return record;
}

/** @throws Fault INVALID_ARGUMENT */
export function parseIdentityKind(value: string): IdentityKind {
  const found = IDENTITY_KINDS.find((kind) => kind === value);
  if (found === undefined)
    throw new Fault('INVALID_ARGUMENT', `kind: write one of ${IDENTITY_KINDS.join(', ')}`);
  return found;
}

/** @throws Fault INVALID_ARGUMENT */
export function parseIdentityStatus(value: string): IdentityStatus {
  const found = IDENTITY_STATUSES.find((status) => status === value);
  if (found === undefined)
    throw new Fault('INVALID_ARGUMENT', `status: write one of ${IDENTITY_STATUSES.join(', ')}`);
  return found;
}

function identityFromRow(row: Row): IdentityRecord {
  return {
    spiffeId: text(row, 'spiffe_id'),
    owner: text(row, 'owner'),
    purpose: text(row, 'purpose'),
    environment: text(row, 'environment'),
    kind: parseIdentityKind(text(row, 'kind')),
    labels: JSON.parse(text(row, 'labels')),
    status: parseIdentityStatus(text(row, 'status')),
    expiresAt: instant(row, 'expires_at_ms'),
    createdAt: instant(row, 'created_at_ms'),
    jwtAudiences: JSON.parse(text(row, 'jwt_audiences')),
    maxAgents: integer(row, 'max_agents'),
  };
}

function denied(message: string): Fault {
  return new Fault('PERMISSION_DENIED', message);
}
