/**
 * What has to stand before a workload gets anything signed: agent, entry, identity record, no lock. To
 * be asked in the very transaction that writes the ledger, so nothing that was taken away a moment ago
 * is signed once more.
 */
import type { SpiffeId } from '../../identity/spiffe-id.ts';
import type { Entry } from '../../proto/gen/spire/api/types/entry_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Actor } from '../access/actor.ts';
import { isLocked } from '../access/locks.ts';
import { type AgentRecord, findAgent } from '../attestation/agent-records.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { type EntryIndex, idText } from '../registry/entry-index.ts';
import { requireActive } from '../registry/identity-records.ts';

/**
 * The agent may have been banned or evicted since its call was admitted.
 * @throws Fault PERMISSION_DENIED
 */
export async function requireAgent(reader: Reader, { id }: AgentRecord): Promise<void> {
  const record = await findAgent(reader, id);
  if (record === undefined || record.isBanned)
    throw new Fault('PERMISSION_DENIED', 'agent is not attested');
}

/** @throws Fault NOT_FOUND unless the agent may serve the entry now */
export function authorisedEntry(
  index: EntryIndex,
  agent: AgentRecord,
  { entryId, now }: { readonly entryId: string; readonly now: Date },
): Entry {
  const entry = index.authorisedEntry(agent, entryId, now);
  if (entry === undefined) throw new Fault('NOT_FOUND', 'entry not found or not authorized');
  return entry;
}

/** What an entry or an operator asks to be signed, before the rules. */
export interface Asked {
  readonly id: SpiffeId;
  readonly ttlSeconds: number;
  readonly agentId?: string;
  /** Unix seconds; 0 is none. */
  readonly entryEnd?: bigint;
}

/** The end that what is signed now may have at most. @throws Fault PERMISSION_DENIED */
export async function mayEndAt(
  reader: Reader,
  { id, ttlSeconds, agentId, entryEnd = 0n }: Asked,
  now: Date,
): Promise<Date> {
  const record = await requireActive(reader, id, now);
  const subject = { spiffeId: id.toString(), ...(agentId !== undefined && { agentId }) };
  if ((await isLocked(reader, subject, now)) !== undefined)
    throw new Fault('PERMISSION_DENIED', 'this identity is locked');
  const ends = [now.getTime() + ttlSeconds * 1000, record.expiresAt.getTime()];
  if (entryEnd > 0n) ends.push(Number(entryEnd) * 1000);
  return new Date(Math.min(...ends));
}

/** On what ground something is signed for an entry's workload. */
export function entryGround(entry: Entry, agent: AgentRecord, actor: Actor) {
  return {
    actor,
    entryId: entry.id,
    agentId: agent.id,
    attributes: {
      entry_revision: String(entry.revisionNumber),
      parent_id: idText(entry.parentId),
    },
  };
}
