import { fromBinary } from '@bufbuild/protobuf';
import type { VerifiedSvid } from '../../identity/verify.ts';
import { type Entry, EntrySchema } from '../../proto/gen/spire/api/types/entry_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { findHolder } from '../access/holder.ts';
import { isLocked } from '../access/locks.ts';
import { isRefusal } from '../access/refusal.ts';
import type { Reader, Row } from '../plugins/datastore/datastore.ts';
import { blob } from '../plugins/datastore/row.ts';
import { requireActive } from '../registry/identity-records.ts';

/** A workload whose SVID still stands. */
export interface Member {
  /** The entries, not expired, that its SVID stands on: one, or for a minted SVID all of its SPIFFE ID. */
  readonly entries: readonly Entry[];
}

/**
 * Looks up what a workload's SVID was issued on. One that an operator minted stands on its identity
 * record alone, so that it speaks for the SPIFFE ID as a whole; only an operator can mint.
 * @throws Fault PERMISSION_DENIED unless everything the SVID stands on is still there
 */
export async function provedMember(reader: Reader, svid: VerifiedSvid, now: Date): Promise<Member> {
  if (svid.notAfter <= now) throw denied('this SVID is expired');
  const minted = await isMinted(reader, svid);
  const entries = minted
    ? await mintedEntries(reader, svid, now)
    : [await heldEntry(reader, svid, now)];
  return { entries };
}

async function heldEntry(reader: Reader, svid: VerifiedSvid, now: Date): Promise<Entry> {
  const holder = await findHolder(reader, svid, now);
  if (isRefusal(holder)) throw denied(holder.says);
  if (holder.endsAt <= now) throw denied('this SVID is expired');
  const { spiffeId, agentId, entryId } = holder;
  if ((await isLocked(reader, { spiffeId, agentId }, now)) !== undefined)
    throw denied('this identity is locked');
  const row = await reader.get('select body from entries where id = ?', entryId);
  if (row === undefined) throw denied('the entry of this identity was deleted');
  return entryOf(row);
}

async function mintedEntries(
  reader: Reader,
  { id, serial }: VerifiedSvid,
  now: Date,
): Promise<Entry[]> {
  await requireActive(reader, id, now);
  const spiffeId = id.toString();
  if ((await isLocked(reader, { spiffeId }, now)) !== undefined)
    throw denied('this identity is locked');
  if (await isRevoked(reader, serial)) throw denied('this X509-SVID was revoked: fetch a new one');
  const rows = await reader.all(
    'select body from entries where spiffe_id = ? order by id',
    spiffeId,
  );
  return rows.map(entryOf).filter(({ expiresAt }) => isAhead(expiresAt, now));
}

/** Whether the SVID came from an operator's MintX509SVID and not from an entry. */
async function isMinted(reader: Reader, { id, serial }: VerifiedSvid): Promise<boolean> {
  const row = await reader.get(
    `select 1 as found from ledger where serial = ? and kind = 'x509' and spiffe_id = ?
       and entry_id is null and agent_id is null`,
    serial,
    id.toString(),
  );
  return row !== undefined;
}

async function isRevoked(reader: Reader, serial: string): Promise<boolean> {
  const row = await reader.get(
    'select 1 as found from ledger where serial = ? and revoked_at_ms is not null',
    serial,
  );
  return row !== undefined;
}

function isAhead(expiresAt: bigint, now: Date): boolean {
  return expiresAt === 0n || Number(expiresAt) * 1000 > now.getTime();
}

function entryOf(row: Row): Entry {
  return fromBinary(EntrySchema, blob(row, 'body'));
}

function denied(message: string): Fault {
  return new Fault('PERMISSION_DENIED', message);
}
