import { type Identity, IdentityService } from '../proto/gen/writ/admin/v1/admin_pb.ts';
import { RpcError } from '../runtime/grpc-client.ts';
import type { VerbIo } from './verb.ts';

/** Fields of an identity record, for a call that puts one. */
export type IdentityFields = Omit<Partial<Identity>, '$typeName' | '$unknown'>;

/** The record of a SPIFFE ID as it stands, so that a change keeps what it does not name; undefined if there is none. */
export async function knownIdentity(
  io: Pick<VerbIo, 'admin' | 'signal'>,
  spiffeId: string,
): Promise<IdentityFields | undefined> {
  try {
    const call = io.admin(IdentityService).getIdentity({ spiffeId }, { signal: io.signal });
    const { identity } = await call;
    if (identity === undefined) return undefined;
    const { $typeName: _, $unknown: __, ...fields } = identity;
    return fields;
  } catch (error) {
    if (error instanceof RpcError && error.status === 'NOT_FOUND') return undefined;
    throw error;
  }
}
