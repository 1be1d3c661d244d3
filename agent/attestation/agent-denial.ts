import { fromBinary } from '@bufbuild/protobuf';
import { anyUnpack } from '@bufbuild/protobuf/wkt';
import { StatusSchema } from '../../proto/gen/google/rpc/status_pb.ts';
import {
  PermissionDeniedDetails_Reason,
  PermissionDeniedDetailsSchema,
} from '../../proto/gen/spire/api/types/status_pb.ts';
import { RpcError } from '../../runtime/grpc-client.ts';

const SENTENCES: ReadonlyMap<PermissionDeniedDetails_Reason, string> = new Map([
  [PermissionDeniedDetails_Reason.AGENT_EXPIRED, 'its SVID has expired'],
  [PermissionDeniedDetails_Reason.AGENT_NOT_ATTESTED, 'the server does not know it'],
  [
    PermissionDeniedDetails_Reason.AGENT_NOT_ACTIVE,
    'its SVID has been superseded, so a copy of this agent may run elsewhere',
  ],
  [PermissionDeniedDetails_Reason.AGENT_BANNED, 'it is banned'],
  [PermissionDeniedDetails_Reason.AGENT_MUST_REATTEST, 'it must attest anew'],
]);

/** Whether the server will have no more of this agent even if it attests anew. */
export function isBanned(error: unknown): boolean {
  return denialReason(error) === PermissionDeniedDetails_Reason.AGENT_BANNED;
}

/**
 * Why the server will have no more of this agent, in words; undefined for any other error, also for a
 * PERMISSION_DENIED that does not say so.
 * Source: SPIRE, `spire.api.types.PermissionDeniedDetails` in `grpc-status-details-bin`.
 */
export function agentDenial(error: unknown): string | undefined {
  const reason = denialReason(error);
  return reason === undefined ? undefined : SENTENCES.get(reason);
}

function denialReason(error: unknown): PermissionDeniedDetails_Reason | undefined {
  if (!(error instanceof RpcError) || error.status !== 'PERMISSION_DENIED') return undefined;
  return error.details === undefined ? undefined : reasonIn(error.details);
}

function reasonIn(details: Uint8Array): PermissionDeniedDetails_Reason | undefined {
  try {
    for (const any of fromBinary(StatusSchema, details).details) {
      const denied = anyUnpack(any, PermissionDeniedDetailsSchema);
      if (denied !== undefined) return denied.reason;
    }
  } catch {
    return undefined;
  }
  return undefined;
}
