/**
 * What host certificates name: a gateway by its record, a target by its backend. One authority signs
 * both, so a name of the one kind is never also of the other: a gateway would pass for a target, or the
 * administrator of a target for a gateway. Neither can be declared so; this asks once more.
 */
import type { SshBackend } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { type GatewayRecord, listGateways } from '../access/gateways.ts';
import { findBackend, sshBackendNames } from '../access/resources.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';

/**
 * The names under which clients reach a gateway.
 * @throws Fault FAILED_PRECONDITION
 */
export async function gatewayHostNames(
  reader: Reader,
  { names }: GatewayRecord,
): Promise<readonly string[]> {
  const backends = await sshBackendNames(reader);
  const shared = names.find((name) => backends.has(name));
  if (shared !== undefined)
    throw new Fault('FAILED_PRECONDITION', `${shared} is a backend and a name of this gateway`);
  return names;
}

/**
 * The backend that a host certificate may name.
 * @param backend untrusted
 * @throws Fault NOT_FOUND, FAILED_PRECONDITION
 */
export async function requireSshHost(reader: Reader, backend: string): Promise<SshBackend> {
  const found = await findBackend(reader, backend);
  if (found === undefined) throw new Fault('NOT_FOUND', 'no backend of that name');
  if (found.type.case !== 'ssh')
    throw new Fault('FAILED_PRECONDITION', `backend ${backend} is not of type ssh`);
  const gateways = await listGateways(reader);
  if (gateways.some(({ names }) => names.includes(backend)))
    throw new Fault('FAILED_PRECONDITION', `${backend} is a backend and a name of a gateway`);
  return found.type.value;
}
