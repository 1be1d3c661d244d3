import type { SpiffeId } from '../../identity/spiffe-id.ts';
import type { SshBackend } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { givesLogin, isLive } from './choose-grant.ts';
import { type GatewayRecord, listGateways, mayServe } from './gateways.ts';
import { findLock, listLocks } from './locks.ts';
import { listResources } from './resources.ts';

/** A backend that somebody may log in to, and by which gateways. */
export interface SshTarget {
  readonly backend: string;
  /** Sorted. */
  readonly logins: readonly string[];
  /** By name; empty if no gateway that serves the backend has told of an SSH port. */
  readonly gateways: readonly SshTargetGateway[];
  /** Of the asked identities those that may log in. */
  readonly spiffeIds: readonly string[];
}

export interface SshTargetGateway {
  readonly name: string;
  /** DNS names and IP addresses of its record. */
  readonly hosts: readonly string[];
  readonly port: number;
}

/** Where these identities may log in now, by backend. A session is decided by itself all the same. */
export async function sshTargets(
  reader: Reader,
  spiffeIds: readonly (SpiffeId | string)[],
  now: Date,
): Promise<SshTarget[]> {
  const identities = new Set(spiffeIds.map(String));
  const bodies = (await listResources(reader)).map(({ body }) => body);
  const locks = await listLocks(reader);
  const live = bodies.flatMap((body) => {
    if (body.case !== 'grant' || !identities.has(body.value.identity)) return [];
    const { name, identity: spiffeId, backend } = body.value;
    const isBarred = findLock(locks, { spiffeId, grant: name, backend }, now) !== undefined;
    return isLive(body.value, now) && !isBarred ? [body.value] : [];
  });
  const gateways = await listGateways(reader);
  return bodies.flatMap((body) => {
    if (body.case !== 'backend' || body.value.type.case !== 'ssh') return [];
    const { name: backend, type } = body.value;
    const held = live.filter((grant) => grant.backend === backend);
    const logins = loginsOf(type.value).filter((login) =>
      held.some((grant) => givesLogin(grant, login)),
    );
    if (logins.length === 0) return [];
    const giving = held.filter((grant) => logins.some((login) => givesLogin(grant, login)));
    const holders = [...new Set(giving.map(({ identity }) => identity))].sort();
    const ways = gateways.flatMap((gateway) => waysTo(backend, gateway));
    return [{ backend, logins, gateways: ways, spiffeIds: holders }];
  });
}

function loginsOf({ logins }: SshBackend): string[] {
  return Object.keys(logins).sort();
}

function waysTo(backend: string, gateway: GatewayRecord): SshTargetGateway[] {
  const { name, names: hosts, ports } = gateway;
  const port = ports.ssh;
  const isReachable = port !== undefined && hosts.length > 0 && mayServe(gateway, backend);
  return isReachable ? [{ name, hosts, port }] : [];
}
