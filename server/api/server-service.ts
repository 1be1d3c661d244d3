import type { ServerService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { RestoredLock } from '../restored-lock.ts';
import { actorOf, type Caller } from './callers.ts';

/** Backups of the server, and its way back into service after a restore. */
export function serverService({ lock }: { readonly lock: RestoredLock }) {
  return {
    async unlock({ reason }, { caller }) {
      await lock.unlock(actorOf(caller), reason);
      return {};
    },
  } satisfies Partial<Implementation<typeof ServerService, Caller>>;
}
