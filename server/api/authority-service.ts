import type { MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { keyTypeName } from '../../identity/x509/key.ts';
import type {
  AuthorityService,
  SigningAuthoritySchema,
} from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { Authorities } from '../authority/authorities.ts';
import { type AuthorityRow, SSH_KINDS, type SshKind } from '../authority/authority-rows.ts';
import { actorOf, type Caller } from './callers.ts';

export interface AuthorityServiceOptions {
  readonly authorities: Authorities;
}

/** All authorities, and the steps of those for SSH: SPIRE's own API has those of the others. */
export function authorityService({
  authorities,
}: AuthorityServiceOptions): Implementation<typeof AuthorityService, Caller> {
  const named = (id: string) => ({ kind: kindOf(authorities, id), id });
  return {
    async listAuthorities() {
      const rows = authorities.state.value.authorities.map(({ row }) => row);
      return { authorities: rows.map(authorityMessage) };
    },

    async prepareSshAuthority({ kind: asked }, { caller, signal }) {
      const kind = SSH_KINDS.find((one) => one === asked);
      if (kind === undefined)
        throw new Fault('INVALID_ARGUMENT', `kind: one of ${SSH_KINDS.join(', ')}`);
      const row = await authorities.prepare(kind, actorOf(caller), signal);
      return { authority: authorityMessage(row) };
    },

    async activateSshAuthority({ id }, { caller }) {
      const row = await authorities.activate(named(id), actorOf(caller));
      return { authority: authorityMessage(row) };
    },

    async revokeSshAuthority({ id }, { caller }) {
      const row = await authorities.revoke(named(id), actorOf(caller));
      return { authority: authorityMessage(row) };
    },
  };
}

/** @throws Fault INVALID_ARGUMENT unless it is an SSH authority's */
function kindOf(authorities: Authorities, id: string): SshKind {
  const found = authorities.state.value.authorities.find(({ row }) => row.id === id);
  const kind = SSH_KINDS.find((one) => one === found?.row.kind);
  if (kind === undefined)
    throw new Fault('INVALID_ARGUMENT', 'there is no SSH authority with this ID');
  return kind;
}

function authorityMessage(row: AuthorityRow): MessageInitShape<typeof SigningAuthoritySchema> {
  const { id, kind, state, tainted, publicKey, upstreamId } = row;
  return {
    ...{ id, kind, state, tainted, upstreamId },
    keyType: keyTypeName(publicKey),
    notBefore: timestampFromDate(row.notBefore),
    notAfter: timestampFromDate(row.notAfter),
  };
}
