/**
 * Who may call what: one row for every RPC of every service that this server knows (threats S1). The
 * guard and its test are made from this table; a method without a row does not compile.
 */
import type { DescService } from '@bufbuild/protobuf';
import { Health } from '../../proto/gen/grpc/health/v1/health_pb.ts';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Bundle } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { SVID } from '../../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import {
  AuditService,
  BackendService,
  GatewayRegistryService,
  IdentityService,
  JoinTokenService,
  LockService,
  ResourceService,
  SessionService,
  SshService,
} from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { AgentService } from '../../proto/gen/writ/agent/v1/agent_pb.ts';
import { GatewayService } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Attempt } from '../../runtime/grpc-server.ts';
import { type Caller, type CallerKind, claimedKind, type ServerPeer } from './callers.ts';

/** The kinds that may call; `any` asks for no proof, so that a caller without identity may too. */
export type Callers = 'any' | readonly CallerKind[];

const ANY = 'any';
const LOCAL = ['local'] as const;
const AGENT = ['agent'] as const;
const GATEWAY = ['gateway'] as const;
const LOCAL_OR_AGENT = ['local', 'agent'] as const;
/** Nested servers come later. */
const NOBODY = [] as const;

/** By path on the wire, e.g. `/spire.api.server.agent.v1.Agent/AttestAgent`. */
export const RPC_TABLE: ReadonlyMap<string, Callers> = new Map([
  ...rows(Agent, {
    attestAgent: ANY,
    renewAgent: AGENT,
    postStatus: AGENT,
    countAgents: LOCAL,
    listAgents: LOCAL,
    getAgent: LOCAL,
    deleteAgent: LOCAL,
    banAgent: LOCAL,
    createJoinToken: LOCAL,
  }),
  ...rows(Entry, {
    countEntries: LOCAL,
    listEntries: LOCAL,
    getEntry: LOCAL,
    batchCreateEntry: LOCAL,
    batchUpdateEntry: LOCAL,
    batchDeleteEntry: LOCAL,
    getAuthorizedEntries: AGENT,
    syncAuthorizedEntries: AGENT,
  }),
  ...rows(SVID, {
    mintX509SVID: LOCAL,
    mintJWTSVID: LOCAL,
    mintWITSVID: LOCAL,
    batchNewX509SVID: AGENT,
    newJWTSVID: AGENT,
    batchNewWITSVID: AGENT,
    newDownstreamX509CA: NOBODY,
  }),
  ...rows(Bundle, {
    getBundle: ANY,
    countBundles: LOCAL,
    appendBundle: LOCAL,
    publishJWTAuthority: NOBODY,
    publishWITAuthority: NOBODY,
    listFederatedBundles: LOCAL,
    getFederatedBundle: LOCAL_OR_AGENT,
    batchCreateFederatedBundle: LOCAL,
    batchUpdateFederatedBundle: LOCAL,
    batchSetFederatedBundle: LOCAL,
    batchDeleteFederatedBundle: LOCAL,
  }),
  ...rows(Health, { check: LOCAL, list: LOCAL, watch: LOCAL }),
  ...rows(AgentService, {
    watchEntries: AGENT,
    signSshCertificate: AGENT,
    listSshTargets: AGENT,
  }),
  ...rows(GatewayService, {
    connect: GATEWAY,
    openSession: GATEWAY,
    signSshCertificate: GATEWAY,
    signSshHostCertificate: GATEWAY,
    closeSession: GATEWAY,
  }),
  ...rows(JoinTokenService, { createJoinToken: LOCAL }),
  ...rows(IdentityService, {
    listIdentities: LOCAL,
    getIdentity: LOCAL,
    putIdentity: LOCAL,
    setIdentityStatus: LOCAL,
  }),
  ...rows(ResourceService, {
    apply: LOCAL,
    listResources: LOCAL,
    getResource: LOCAL,
    deleteResource: LOCAL,
  }),
  ...rows(BackendService, { planBackendSetup: LOCAL }),
  ...rows(SessionService, {
    listSessions: LOCAL,
    getSession: LOCAL,
    killSession: LOCAL,
    replaySession: LOCAL,
  }),
  ...rows(LockService, { createLock: LOCAL, listLocks: LOCAL, deleteLock: LOCAL }),
  ...rows(AuditService, { tailEvents: LOCAL }),
  ...rows(GatewayRegistryService, { createGateway: LOCAL, listGateways: LOCAL }),
  ...rows(SshService, { listSshAuthorities: LOCAL, signHostCertificate: LOCAL }),
]);

/**
 * Lets a call through if the table allows its caller, or refuses it before its messages are read.
 * @param prove checks a peer's claim against the store; asked only where the claim would be enough
 */
export function rpcGuard(
  prove: (peer: ServerPeer) => Promise<Caller>,
): (attempt: Attempt<ServerPeer>) => Promise<Caller> {
  return async ({ peer, method }) => {
    const callers = RPC_TABLE.get(method) ?? NOBODY;
    if (callers === ANY) return unproved(peer);
    const claimed = claimedKind(peer);
    if (!callers.includes(claimed)) throw denied(method);
    const caller = await prove(peer);
    if (caller.kind !== claimed) throw denied(method);
    return caller;
  };
}

function unproved(peer: ServerPeer): Caller {
  return peer.kind === 'local' ? peer : { kind: 'anonymous', address: peer.connection.address };
}

function denied(method: string): Fault {
  return new Fault('PERMISSION_DENIED', `authorization denied for method ${method}`);
}

function rows<S extends DescService>(
  service: S,
  callers: { readonly [K in keyof S['method']]: Callers },
): [string, Callers][] {
  return service.methods.map((method) => {
    const allowed = callers[method.localName as keyof S['method']];
    return [`/${service.typeName}/${method.name}`, allowed];
  });
}
