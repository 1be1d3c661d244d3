import type { AgentService } from '../../proto/gen/writ/agent/v1/agent_pb.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { Crls } from '../authority/crls.ts';
import type { Caller } from './callers.ts';

/** Gives our agents what the Workload API tells of revoked serials. */
export function crlService({
  crls,
}: {
  readonly crls: Pick<Crls, 'upToDate'>;
}): Pick<Implementation<typeof AgentService, Caller>, 'getCrl'> {
  return {
    async getCrl(_request, { signal }) {
      const lists = await crls.upToDate(signal);
      return { crls: lists.map(({ der }) => der) };
    },
  };
}
