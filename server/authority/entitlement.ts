/**
 * What has to stand before a workload gets anything signed: agent, entry, identity record, no lock. To
 * be asked in the very transaction that writes the ledger, so nothing that was taken away a moment ago
 * is signed once more.
 */
import type { SpiffeId } from '../../identity/spiffe-id.ts';
import type { Entry } from '../../proto/gen/spire/api/types/entry_pb.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Lock } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Actor } from '../access/actor.ts';
import { findLock, listLocks } from '../access/locks.ts';
import { type Refusal, refusal } from '../access/refusal.ts';
import { type AgentRecord, findAgent } from '../attestation/agent-records.ts';
import type { RefusalCounter } from '../audit/refusal-counter.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { type EntryIndex, idText } from '../registry/entry-index.ts';
import { countOtherHolders } from '../registry/identity-holders.ts';
import {
  activeRecord,
  type IdentityRecord,
  identitiesFor,
  identityFor,
} from '../registry/identity-records.ts';
import type { Credential, TtlPolicy } from '../registry/ttl-policy.ts';

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

/** What bounds everything that workloads get, beside what the store says of each. */
export interface IssuingRules {
  readonly ttlPolicy: TtlPolicy;
  readonly refusals: Pick<RefusalCounter, 'count'>;
}

/** What a workload is to get. */
export interface WorkloadWish {
  readonly credential: Credential;
  /** Of a JWT-SVID, as asked. */
  readonly audience?: readonly string[];
  readonly rules: IssuingRules;
  readonly actor: Actor;
}

/** What an entry or an operator asks to be signed, before the rules. */
export interface Asked {
  readonly id: SpiffeId;
  readonly ttlSeconds: number;
  readonly agentId?: string;
  /** Unix seconds; 0 is none. */
  readonly entryEnd?: bigint;
  /** Left out for what is a gateway's own. */
  readonly workload?: WorkloadWish;
}

/** What the store says of identities, read once for all that one transaction signs. */
export interface Standings {
  /** By SPIFFE ID; those that are asked for and have none are left out. */
  readonly records: ReadonlyMap<string, IdentityRecord>;
  readonly locks: readonly Lock[];
}

export async function readStandings(
  reader: Reader,
  spiffeIds: Iterable<string>,
): Promise<Standings> {
  return { records: await identitiesFor(reader, spiffeIds), locks: await listLocks(reader) };
}

/**
 * The end that what is signed now may have at most.
 * @param standings of the same transaction, the asked identity among them
 * @throws Fault PERMISSION_DENIED
 */
export async function mayEndAt(
  reader: Reader,
  asked: Asked,
  now: Date,
  standings?: Standings,
): Promise<Date> {
  const { id, agentId, entryEnd = 0n, workload } = asked;
  const spiffeId = id.toString();
  const known =
    standings === undefined ? await identityFor(reader, id) : standings.records.get(spiffeId);
  const record = activeRecord(known, now);
  const subject = agentId === undefined ? { spiffeId } : { spiffeId, agentId };
  const locks = standings === undefined ? await listLocks(reader) : standings.locks;
  if (findLock(locks, subject, now) !== undefined)
    throw new Fault('PERMISSION_DENIED', 'this identity is locked');
  let { ttlSeconds } = asked;
  if (workload !== undefined) {
    const refused =
      whyAudienceRefused(record, workload) ?? (await whyTooMany(reader, record, asked, now));
    if (refused !== undefined) refuse(refused, record, asked, workload);
    const { ttlPolicy } = workload.rules;
    ttlSeconds = Math.min(ttlSeconds, ttlPolicy.maximumSeconds(record, workload.credential));
  }
  const ends = [now.getTime() + ttlSeconds * 1000, record.expiresAt.getTime()];
  if (entryEnd > 0n) ends.push(Number(entryEnd) * 1000);
  return new Date(Math.min(...ends));
}

function whyAudienceRefused(
  { jwtAudiences }: IdentityRecord,
  { audience = [] }: WorkloadWish,
): Refusal | undefined {
  if (jwtAudiences.length === 0 || audience.every((one) => jwtAudiences.includes(one)))
    return undefined;
  return refusal('jwt_audiences', 'a token of this identity may not name that audience');
}

async function whyTooMany(
  reader: Reader,
  { spiffeId, maxAgents }: IdentityRecord,
  { agentId }: Asked,
  now: Date,
): Promise<Refusal | undefined> {
  if (maxAgents === 0 || agentId === undefined) return undefined;
  if ((await countOtherHolders(reader, { spiffeId, agentId }, now)) < maxAgents) return undefined;
  const agents = maxAgents === 1 ? 'another agent holds' : `${maxAgents} other agents hold`;
  return refusal(
    'max_agents',
    `${agents} this identity, and its record allows no more (max_agents: ${maxAgents})`,
  );
}

/** An agent asks again every few seconds: the event is written at most once a minute. */
function refuse(
  { cause, says }: Refusal,
  { spiffeId }: IdentityRecord,
  { agentId = '' }: Asked,
  { credential, rules, actor }: WorkloadWish,
): never {
  rules.refusals.count(`${cause}|${spiffeId}|${agentId}`, {
    type: 'identity.svid.refused',
    outcome: Outcome.DENIED,
    ...{ actor, spiffeId, agentId, reason: says, attributes: { cause, credential } },
  });
  throw new Fault('PERMISSION_DENIED', says);
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
