import type { ServerService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { AdminSocketMode } from '../admin-socket-mode.ts';
import { actorOf, type Caller } from './callers.ts';

/** Lets an operator limit the socket that the call comes by. */
export function limitAdminSocketService({ mode }: { readonly mode: AdminSocketMode }) {
  return {
    async limitAdminSocket(_, { caller }) {
      await mode.limit(actorOf(caller));
      return {};
    },
  } satisfies Partial<Implementation<typeof ServerService, Caller>>;
}
