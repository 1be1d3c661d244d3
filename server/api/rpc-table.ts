/**
 * Who may call what: one row for every RPC of every service that this server knows (threats S1). The
 * guard and its test are made from this table; a method without a row does not compile.
 */
import type { DescService } from '@bufbuild/protobuf';
import { Health } from '../../proto/gen/grpc/health/v1/health_pb.ts';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Bundle } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { Debug } from '../../proto/gen/spire/api/server/debug/v1/debug_pb.ts';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { LocalAuthority } from '../../proto/gen/spire/api/server/localauthority/v1/localauthority_pb.ts';
import { Logger } from '../../proto/gen/spire/api/server/logger/v1/logger_pb.ts';
import { SVID } from '../../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import { TrustDomain } from '../../proto/gen/spire/api/server/trustdomain/v1/trustdomain_pb.ts';
import {
  AgentRegistryService,
  AuditService,
  AuthorityService,
  BackendService,
  GatewayRegistryService,
  IdentityService,
  JoinTokenService,
  LockService,
  RegistrarService,
  ResourceService,
  SecretService,
  ServerService,
  SessionService,
  SshService,
} from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { AgentService } from '../../proto/gen/writ/agent/v1/agent_pb.ts';
import { GatewayService } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Attempt } from '../../runtime/grpc-server.ts';
import {
  type Caller,
  type CallerKind,
  claimedKind,
  isMemberKind,
  type LocalCaller,
  type ServerPeer,
} from './callers.ts';

/** The kinds that may call; `any` asks for no proof, so that a caller without identity may too. */
export type Callers = 'any' | readonly CallerKind[];

const ANY = 'any';
const LOCAL = ['local'] as const;
const AGENT = ['agent'] as const;
const GATEWAY = ['gateway'] as const;
const DOWNSTREAM = ['downstream'] as const;
const LOCAL_OR_ADMIN = ['local', 'admin'] as const;
const LOCAL_ADMIN_OR_AGENT = ['local', 'admin', 'agent'] as const;
/** Of one that is an admin too, the bounds of its registrar's record do not count. */
const LOCAL_ADMIN_OR_REGISTRAR = ['local', 'admin', 'registrar'] as const;
const NOBODY = [] as const;

/** By path on the wire, e.g. `/spire.api.server.agent.v1.Agent/AttestAgent`. */
export const RPC_TABLE: ReadonlyMap<string, Callers> = new Map([
  ...rows(Agent, {
    attestAgent: ANY,
    renewAgent: AGENT,
    postStatus: AGENT,
    countAgents: LOCAL_OR_ADMIN,
    listAgents: LOCAL_OR_ADMIN,
    getAgent: LOCAL_OR_ADMIN,
    deleteAgent: LOCAL_OR_ADMIN,
    banAgent: LOCAL_OR_ADMIN,
    createJoinToken: LOCAL_OR_ADMIN,
  }),
  ...rows(Entry, {
    countEntries: LOCAL_ADMIN_OR_REGISTRAR,
    listEntries: LOCAL_ADMIN_OR_REGISTRAR,
    getEntry: LOCAL_ADMIN_OR_REGISTRAR,
    batchCreateEntry: LOCAL_ADMIN_OR_REGISTRAR,
    batchUpdateEntry: LOCAL_ADMIN_OR_REGISTRAR,
    batchDeleteEntry: LOCAL_ADMIN_OR_REGISTRAR,
    getAuthorizedEntries: AGENT,
    syncAuthorizedEntries: AGENT,
  }),
  ...rows(SVID, {
    mintX509SVID: LOCAL_OR_ADMIN,
    mintJWTSVID: LOCAL_OR_ADMIN,
    mintWITSVID: LOCAL_OR_ADMIN,
    batchNewX509SVID: AGENT,
    newJWTSVID: AGENT,
    batchNewWITSVID: AGENT,
    newDownstreamX509CA: DOWNSTREAM,
  }),
  ...rows(Bundle, {
    getBundle: ANY,
    countBundles: LOCAL_OR_ADMIN,
    appendBundle: LOCAL_OR_ADMIN,
    publishJWTAuthority: DOWNSTREAM,
    publishWITAuthority: DOWNSTREAM,
    listFederatedBundles: LOCAL_OR_ADMIN,
    getFederatedBundle: LOCAL_ADMIN_OR_AGENT,
    batchCreateFederatedBundle: LOCAL_OR_ADMIN,
    batchUpdateFederatedBundle: LOCAL_OR_ADMIN,
    batchSetFederatedBundle: LOCAL_OR_ADMIN,
    batchDeleteFederatedBundle: LOCAL_OR_ADMIN,
  }),
  ...rows(TrustDomain, {
    listFederationRelationships: LOCAL_OR_ADMIN,
    getFederationRelationship: LOCAL_OR_ADMIN,
    batchCreateFederationRelationship: LOCAL_OR_ADMIN,
    batchUpdateFederationRelationship: LOCAL_OR_ADMIN,
    batchDeleteFederationRelationship: LOCAL_OR_ADMIN,
    refreshBundle: LOCAL_OR_ADMIN,
  }),
  ...rows(LocalAuthority, {
    getX509AuthorityState: LOCAL_OR_ADMIN,
    prepareX509Authority: LOCAL_OR_ADMIN,
    activateX509Authority: LOCAL_OR_ADMIN,
    taintX509Authority: LOCAL_OR_ADMIN,
    revokeX509Authority: LOCAL_OR_ADMIN,
    taintX509UpstreamAuthority: LOCAL_OR_ADMIN,
    revokeX509UpstreamAuthority: LOCAL_OR_ADMIN,
    getJWTAuthorityState: LOCAL_OR_ADMIN,
    prepareJWTAuthority: LOCAL_OR_ADMIN,
    activateJWTAuthority: LOCAL_OR_ADMIN,
    taintJWTAuthority: LOCAL_OR_ADMIN,
    revokeJWTAuthority: LOCAL_OR_ADMIN,
    getWITAuthorityState: LOCAL_OR_ADMIN,
    prepareWITAuthority: LOCAL_OR_ADMIN,
    activateWITAuthority: LOCAL_OR_ADMIN,
    taintWITAuthority: LOCAL_OR_ADMIN,
    revokeWITAuthority: LOCAL_OR_ADMIN,
  }),
  ...rows(Logger, { getLogger: LOCAL, setLogLevel: LOCAL, resetLogLevel: LOCAL }),
  ...rows(Debug, { getInfo: LOCAL }),
  ...rows(Health, { check: LOCAL, list: LOCAL, watch: LOCAL }),
  ...rows(AgentService, {
    watchEntries: AGENT,
    signSshCertificate: AGENT,
    listSshTargets: AGENT,
    getCrl: AGENT,
  }),
  ...rows(GatewayService, {
    connect: GATEWAY,
    openSession: GATEWAY,
    signSshCertificate: GATEWAY,
    signSshHostCertificate: GATEWAY,
    closeSession: GATEWAY,
    fetchLogin: GATEWAY,
    takeRotation: GATEWAY,
    reportRotation: GATEWAY,
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
  ...rows(BackendService, { planBackendSetup: LOCAL, signProof: LOCAL }),
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
  ...rows(AgentRegistryService, { getReach: LOCAL, importAgents: LOCAL }),
  ...rows(RegistrarService, {
    putRegistrar: LOCAL,
    listRegistrars: LOCAL,
    deleteRegistrar: LOCAL,
  }),
  ...rows(AuthorityService, {
    listAuthorities: LOCAL,
    prepareSshAuthority: LOCAL,
    activateSshAuthority: LOCAL,
    revokeSshAuthority: LOCAL,
  }),
  ...rows(SecretService, {
    putSecret: LOCAL,
    listSecrets: LOCAL,
    retireSecret: LOCAL,
    deleteSecret: LOCAL,
    rotateLogin: LOCAL,
    getRotation: LOCAL,
  }),
  ...rows(ServerService, { backup: LOCAL, unlock: LOCAL, limitAdminSocket: LOCAL }),
]);

/**
 * Checks a peer's claim against the store.
 * @param wanted what it may be to make the call
 * @throws Fault PERMISSION_DENIED
 */
export type Prove = (peer: ServerPeer, wanted: readonly CallerKind[]) => Promise<Caller>;

/** Looks at each call of the admin socket that the table allows. */
export interface LocalGate {
  /** @throws Fault PERMISSION_DENIED */
  admit(caller: LocalCaller, method: string): void;
}

/**
 * Lets a call through if the table allows its caller, or refuses it before its messages are read.
 * @param prove asked only where the claim could be enough
 */
export function rpcGuard(
  prove: Prove,
  gate: LocalGate,
): (attempt: Attempt<ServerPeer>) => Promise<Caller> {
  return async ({ peer, method, requestId }) => {
    const callers = RPC_TABLE.get(method) ?? NOBODY;
    if (peer.kind === 'local' && (callers === ANY || callers.includes('local')))
      gate.admit(peer, method);
    if (callers === ANY) return { ...unproved(peer), requestId };
    if (!mayProve(claimedKind(peer), callers)) throw denied(method);
    const caller = await prove(peer, callers);
    if (!callers.includes(caller.kind)) throw denied(method);
    return { ...caller, requestId };
  };
}

/** Whether a peer's claim is enough to look at its proof. */
function mayProve(claimed: CallerKind, callers: readonly CallerKind[]): boolean {
  return callers.includes(claimed) || (claimed === 'workload' && callers.some(isMemberKind));
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
