import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  AuthorityStateSchema,
  LocalAuthority,
} from '../../proto/gen/spire/api/server/localauthority/v1/localauthority_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { Authorities } from '../authority/authorities.ts';
import type { AuthorityRow, AuthorityState } from '../authority/authority-rows.ts';
import { rowsOfKind } from '../authority/authority-state.ts';
import { actorOf, type Caller } from './callers.ts';

export interface LocalAuthorityServiceOptions {
  readonly authorities: Authorities;
}

type Service = Partial<Implementation<typeof LocalAuthority, Caller>>;

/** SPIRE's API for the authorities of X.509 and JWT; its calls for WIT are not there. */
export function localAuthorityService(options: LocalAuthorityServiceOptions): Service {
  return { ...forX509(options), ...forUpstream(options), ...forJwt(options) };
}

function forX509({ authorities }: LocalAuthorityServiceOptions) {
  const kind = 'x509';
  return {
    async getX509AuthorityState() {
      return statesOf(authorities, kind);
    },

    async prepareX509Authority(_, { caller, signal }) {
      const row = await authorities.prepare(kind, actorOf(caller), signal);
      return { preparedAuthority: stateMessage(row) };
    },

    async activateX509Authority({ authorityId: id }, { caller }) {
      const row = await authorities.activate({ kind, id }, actorOf(caller));
      return { activatedAuthority: stateMessage(row) };
    },

    async taintX509Authority({ authorityId: id }, { caller }) {
      refuseUnderUpstream(authorities, 'tainted');
      const row = await authorities.taint({ kind, id }, actorOf(caller));
      return { taintedAuthority: stateMessage(row) };
    },

    async revokeX509Authority({ authorityId: id }, { caller }) {
      refuseUnderUpstream(authorities, 'revoked');
      const row = await authorities.revoke({ kind, id }, actorOf(caller));
      return { revokedAuthority: stateMessage(row) };
    },
  } satisfies Service;
}

function forUpstream({ authorities }: LocalAuthorityServiceOptions) {
  return {
    async taintX509UpstreamAuthority({ subjectKeyId }, { caller }) {
      requireUpstream(authorities);
      const id = subjectKeyId.toLowerCase();
      await authorities.taintUpstream(id, actorOf(caller));
      return { upstreamAuthoritySubjectKeyId: id };
    },

    async revokeX509UpstreamAuthority({ subjectKeyId }, { caller }) {
      requireUpstream(authorities);
      const id = subjectKeyId.toLowerCase();
      await authorities.revokeUpstream(id, actorOf(caller));
      return { upstreamAuthoritySubjectKeyId: id };
    },
  } satisfies Service;
}

function forJwt({ authorities }: LocalAuthorityServiceOptions) {
  const kind = 'jwt';
  return {
    async getJWTAuthorityState() {
      return statesOf(authorities, kind);
    },

    async prepareJWTAuthority(_, { caller, signal }) {
      const row = await authorities.prepare(kind, actorOf(caller), signal);
      return { preparedAuthority: stateMessage(row) };
    },

    async activateJWTAuthority({ authorityId: id }, { caller }) {
      const row = await authorities.activate({ kind, id }, actorOf(caller));
      return { activatedAuthority: stateMessage(row) };
    },

    async taintJWTAuthority({ authorityId: id }, { caller }) {
      const row = await authorities.taint({ kind, id }, actorOf(caller));
      return { taintedAuthority: stateMessage(row) };
    },

    async revokeJWTAuthority({ authorityId: id }, { caller }) {
      const row = await authorities.revoke({ kind, id }, actorOf(caller));
      return { revokedAuthority: stateMessage(row) };
    },
  } satisfies Service;
}

type StateMessage = MessageInitShape<typeof AuthorityStateSchema>;

/** Of several old ones the newest. */
function statesOf(authorities: Authorities, kind: 'x509' | 'jwt') {
  const rows = rowsOfKind(authorities.state.value, kind);
  const of = (wanted: AuthorityState, name: string): Record<string, StateMessage> => {
    const row = rows.find(({ state }) => state === wanted);
    return row === undefined ? {} : { [name]: stateMessage(row) };
  };
  return { ...of('active', 'active'), ...of('prepared', 'prepared'), ...of('old', 'old') };
}

function stateMessage({ id, notAfter, upstreamId }: AuthorityRow): StateMessage {
  return {
    authorityId: id,
    expiresAt: BigInt(Math.floor(notAfter.getTime() / 1000)),
    upstreamAuthoritySubjectKeyId: upstreamId,
  };
}

function refuseUnderUpstream({ hasUpstream }: Authorities, verb: string): void {
  if (hasUpstream)
    throw new Fault(
      'FAILED_PRECONDITION',
      `a local authority cannot be ${verb} while there is an upstream authority`,
    );
}

function requireUpstream({ hasUpstream }: Authorities): void {
  if (!hasUpstream) throw new Fault('FAILED_PRECONDITION', 'there is no upstream authority');
}
