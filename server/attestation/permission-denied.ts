import { create, toBinary } from '@bufbuild/protobuf';
import { anyPack } from '@bufbuild/protobuf/wkt';
import { StatusSchema } from '../../proto/gen/google/rpc/status_pb.ts';
import {
  type PermissionDeniedDetails_Reason,
  PermissionDeniedDetailsSchema,
} from '../../proto/gen/spire/api/types/status_pb.ts';
import { Fault } from '../../runtime/fault.ts';

const GRPC_PERMISSION_DENIED = 7;

/** A refusal that tells an agent how to go on: without the reason it would retry for ever. */
export function permissionDenied(message: string, reason: PermissionDeniedDetails_Reason): Fault {
  const detail = create(PermissionDeniedDetailsSchema, { reason });
  const status = create(StatusSchema, {
    code: GRPC_PERMISSION_DENIED,
    message,
    details: [anyPack(PermissionDeniedDetailsSchema, detail)],
  });
  return new Fault('PERMISSION_DENIED', message, { details: toBinary(StatusSchema, status) });
}
