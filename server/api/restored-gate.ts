import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { SVID } from '../../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import { JoinTokenService, SshService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Attempt } from '../../runtime/grpc-server.ts';
import type { RestoredLock } from '../restored-lock.ts';
import type { ServerPeer } from './callers.ts';
import { rpcPaths } from './rpc-paths.ts';

/** What the admin socket can have given out: everything else there is for looking over and mending. */
const GIVES_OUT: ReadonlySet<string> = new Set([
  ...rpcPaths(Agent, 'createJoinToken'),
  ...rpcPaths(SVID, 'mintX509SVID', 'mintJWTSVID', 'mintWITSVID'),
  ...rpcPaths(JoinTokenService, 'createJoinToken'),
  ...rpcPaths(SshService, 'signHostCertificate'),
]);

/**
 * Shuts a server that was restored and not yet looked over (threats M2): nobody is served over TCP, and
 * the admin socket gives nothing out. Agents take UNAVAILABLE for a server that will come back.
 * @throws Fault UNAVAILABLE, FAILED_PRECONDITION
 */
export function restoredGate(
  lock: RestoredLock,
): (attempt: Pick<Attempt<ServerPeer>, 'peer' | 'method'>) => void {
  return ({ peer, method }) => {
    if (!lock.isLocked) return;
    if (peer.kind === 'remote')
      throw new Fault('UNAVAILABLE', 'this server was restored and is not unlocked yet');
    if (GIVES_OUT.has(method)) lock.refuseWhileLocked();
  };
}
