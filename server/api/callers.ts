import { readlinkSync } from 'node:fs';
import type { SpiffeId } from '../../identity/spiffe-id.ts';
import type { SecureConnection } from '../../identity/tls.ts';
import type { VerifiedSvid } from '../../identity/verify.ts';
import type { Entry } from '../../proto/gen/spire/api/types/entry_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Peer } from '../../runtime/peer-credentials.ts';
import type { Actor, Called } from '../access/actor.ts';
import { findGateway, type GatewayRecord } from '../access/gateways.ts';
import { findHolder } from '../access/holder.ts';
import { isLocked } from '../access/locks.ts';
import { isRefusal } from '../access/refusal.ts';
import type { AgentRecord } from '../attestation/agent-records.ts';
import type { Agents } from '../attestation/agents.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { findRegistrar, type RegistrarRecord } from '../registry/registrars.ts';
import { type Member, provedMember } from './members.ts';

/** A process on this host, at the admin socket. */
export interface LocalCaller extends Called {
  readonly kind: 'local';
  readonly uid: number;
  readonly pid: number;
  readonly executable: string;
}

/** An attested node, with the SVID it shows at this call. */
export interface AgentCaller extends Called {
  readonly kind: 'agent';
  readonly id: SpiffeId;
  readonly serial: string;
  readonly notAfter: Date;
  /** `ip:port`. */
  readonly address: string;
  readonly record: AgentRecord;
}

interface RemoteCaller extends Called {
  readonly id: SpiffeId;
  /** `ip:port`. */
  readonly address: string;
}

/** A workload that may do what an operator may do through SPIRE's API. */
export interface AdminCaller extends RemoteCaller {
  readonly kind: 'admin';
}

/** A workload that may change entries within the bounds of its record (threats S15). */
export interface RegistrarCaller extends RemoteCaller {
  readonly kind: 'registrar';
  readonly record: RegistrarRecord;
}

/** A nested server. */
export interface DownstreamCaller extends RemoteCaller {
  readonly kind: 'downstream';
  readonly serial: string;
  readonly notAfter: Date;
  /** The entry that makes it one. */
  readonly entry: Entry;
}

/** Who calls, once that has been proved. */
export type Caller =
  | LocalCaller
  | AgentCaller
  | AdminCaller
  | RegistrarCaller
  | DownstreamCaller
  | (RemoteCaller & { readonly kind: 'gateway'; readonly record: GatewayRecord })
  | (RemoteCaller & { readonly kind: 'workload' })
  | (Called & { readonly kind: 'anonymous'; readonly address: string });

export type CallerKind = Caller['kind'];

/** What a workload can be besides; its SPIFFE ID does not show it. */
export const MEMBER_KINDS = ['admin', 'registrar', 'downstream'] as const;
export type MemberKind = (typeof MEMBER_KINDS)[number];

export function isMemberKind(kind: CallerKind): kind is MemberKind {
  return MEMBER_KINDS.some((one) => one === kind);
}

/** What a connection is, before any call. */
export type ServerPeer =
  | LocalCaller
  | { readonly kind: 'remote'; readonly connection: Pick<SecureConnection, 'peer' | 'address'> };

/** What a peer would be if its claim holds. Costs nothing: it looks at the SPIFFE ID alone. */
export function claimedKind(peer: ServerPeer): CallerKind {
  if (peer.kind === 'local') return 'local';
  const id = peer.connection.peer?.id;
  if (id === undefined) return 'anonymous';
  if (id.path.startsWith('/spire/agent/')) return 'agent';
  return id.path.startsWith('/writ/gateway/') ? 'gateway' : 'workload';
}

export interface CallerOptions {
  readonly reader: Reader;
  readonly clock: Clock;
  readonly agents: Agents;
  /** SPIFFE IDs of the trust domain that are admins whatever their entries say. */
  readonly adminIds: ReadonlySet<string>;
}

/**
 * Proves what a peer claims, against the store as it is now: connections outlive bans and deletions.
 * @param wanted what a workload is to be, the first that it proves to be counts; without any it is not
 *   looked up, and stays a workload
 * @throws Fault PERMISSION_DENIED
 */
export async function identify(
  peer: ServerPeer,
  options: CallerOptions,
  wanted: readonly CallerKind[] = [],
): Promise<Caller> {
  if (peer.kind === 'local') return peer;
  const { peer: svid, address } = peer.connection;
  if (svid === undefined) return { kind: 'anonymous', address };
  const { id, serial, notAfter } = svid;
  switch (claimedKind(peer)) {
    case 'agent': {
      const record = await options.agents.check({ id, serial, notAfter, address });
      return { kind: 'agent', id, serial, notAfter, address, record };
    }
    case 'gateway':
      return { kind: 'gateway', id, address, record: await gatewayRecord(svid, options) };
    default: {
      const kinds = wanted.filter(isMemberKind);
      const found = kinds.length === 0 ? undefined : await memberCaller(svid, kinds, options);
      return found === undefined ? { kind: 'workload', id, address } : { ...found, id, address };
    }
  }
}

type FoundMember =
  | Omit<AdminCaller, 'id' | 'address'>
  | Omit<RegistrarCaller, 'id' | 'address'>
  | Omit<DownstreamCaller, 'id' | 'address'>;

async function memberCaller(
  svid: VerifiedSvid,
  kinds: readonly MemberKind[],
  options: CallerOptions,
): Promise<FoundMember | undefined> {
  const member = await provedMember(options.reader, svid, options.clock.now());
  for (const kind of kinds) {
    const found = await asKind(kind, svid, member, options);
    if (found !== undefined) return found;
  }
  return undefined;
}

async function asKind(
  kind: MemberKind,
  { id, serial, notAfter }: VerifiedSvid,
  { entries }: Member,
  { reader, adminIds }: CallerOptions,
): Promise<FoundMember | undefined> {
  switch (kind) {
    case 'admin':
      return adminIds.has(id.toString()) || entries.some(({ admin }) => admin)
        ? { kind }
        : undefined;
    case 'registrar': {
      const record = await findRegistrar(reader, id);
      return record && { kind, record };
    }
    case 'downstream': {
      const entry = entries.find(({ downstream }) => downstream);
      return entry && { kind, serial, notAfter, entry };
    }
  }
}

/** A gateway is an operator's record, and its SVID one that still stands (threats S1). */
async function gatewayRecord(
  svid: VerifiedSvid,
  { reader, clock }: CallerOptions,
): Promise<GatewayRecord> {
  const now = clock.now();
  const holder = await findHolder(reader, svid, now);
  if (isRefusal(holder)) throw new Fault('PERMISSION_DENIED', holder.says);
  if (holder.endsAt <= now) throw new Fault('PERMISSION_DENIED', 'this SVID is expired');
  const { spiffeId, agentId } = holder;
  if ((await isLocked(reader, { spiffeId, agentId }, now)) !== undefined)
    throw new Fault('PERMISSION_DENIED', 'this identity is locked');
  const record = await findGateway(reader, spiffeId);
  if (record === undefined) throw new Fault('PERMISSION_DENIED', 'this is no gateway');
  return record;
}

/**
 * Names the process at the other end of the admin socket.
 * @throws Fault ATTESTATION_DENIED if it is gone
 */
export function localCaller(peer: Peer): LocalCaller {
  let executable = '';
  try {
    executable = readlinkSync(`/proc/${peer.pid}/exe`);
  } catch {
    // Another user's process may not be looked at; uid and pid still name it.
  }
  if (!peer.alive()) throw new Fault('ATTESTATION_DENIED', 'the caller has exited');
  return { kind: 'local', uid: peer.uid, pid: peer.pid, executable };
}

/** How the audit log tells a caller. */
export function actorOf(caller: Caller): Actor {
  const { requestId } = caller;
  switch (caller.kind) {
    case 'local': {
      const { uid, pid, executable } = caller;
      return { kind: 'operator', uid, pid, executable, ...called(requestId) };
    }
    case 'anonymous':
      return { kind: 'unknown', address: caller.address, ...called(requestId) };
    default:
      return {
        ...{ kind: caller.kind, spiffeId: caller.id.toString(), address: caller.address },
        ...called(requestId),
      };
  }
}

function called(requestId: string | undefined): Called {
  return requestId === undefined ? {} : { requestId };
}
