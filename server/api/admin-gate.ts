/**
 * What every call on the admin socket passes (threats S16): it is an event, and once the socket is limited
 * it may look, lock and kill, but neither give nor change a right.
 */
import { Health } from '../../proto/gen/grpc/health/v1/health_pb.ts';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Bundle } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { Debug } from '../../proto/gen/spire/api/server/debug/v1/debug_pb.ts';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { LocalAuthority } from '../../proto/gen/spire/api/server/localauthority/v1/localauthority_pb.ts';
import { Logger } from '../../proto/gen/spire/api/server/logger/v1/logger_pb.ts';
import { TrustDomain } from '../../proto/gen/spire/api/server/trustdomain/v1/trustdomain_pb.ts';
import {
  AgentRegistryService,
  AuditService,
  AuthorityService,
  BackendService,
  GatewayRegistryService,
  IdentityService,
  LockService,
  RegistrarService,
  ResourceService,
  SecretService,
  ServerService,
  SessionService,
  SshService,
} from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { RefusalCounter } from '../audit/refusal-counter.ts';
import { actorOf, type LocalCaller } from './callers.ts';
import { rpcPaths } from './rpc-paths.ts';

/** What a limited admin socket lets through; what is not named here it does not. */
export const LIMITED_RPCS: ReadonlySet<string> = new Set([
  ...rpcPaths(Health, 'check', 'list', 'watch'),
  ...rpcPaths(Debug, 'getInfo'),
  ...rpcPaths(Logger, 'getLogger'),
  ...rpcPaths(Agent, 'countAgents', 'listAgents', 'getAgent', 'banAgent'),
  ...rpcPaths(Entry, 'countEntries', 'listEntries', 'getEntry'),
  ...rpcPaths(Bundle, 'getBundle', 'countBundles', 'listFederatedBundles', 'getFederatedBundle'),
  ...rpcPaths(TrustDomain, 'listFederationRelationships', 'getFederationRelationship'),
  ...rpcPaths(
    LocalAuthority,
    'getX509AuthorityState',
    'getJWTAuthorityState',
    'getWITAuthorityState',
  ),
  ...rpcPaths(IdentityService, 'listIdentities', 'getIdentity'),
  ...rpcPaths(ResourceService, 'listResources', 'getResource'),
  ...rpcPaths(BackendService, 'planBackendSetup'),
  ...rpcPaths(SessionService, 'listSessions', 'getSession', 'killSession', 'replaySession'),
  // Lifting a lock gives back what it took.
  ...rpcPaths(LockService, 'createLock', 'listLocks'),
  ...rpcPaths(AuditService, 'tailEvents'),
  ...rpcPaths(GatewayRegistryService, 'listGateways'),
  ...rpcPaths(SshService, 'listSshAuthorities'),
  ...rpcPaths(AgentRegistryService, 'getReach'),
  ...rpcPaths(RegistrarService, 'listRegistrars'),
  ...rpcPaths(AuthorityService, 'listAuthorities'),
  ...rpcPaths(SecretService, 'listSecrets', 'getRotation'),
  ...rpcPaths(ServerService, 'limitAdminSocket'),
]);

export interface AdminGateOptions {
  readonly mode: { readonly isLimited: boolean };
  readonly refusals: Pick<RefusalCounter, 'count'>;
}

/** Lets a call of the admin socket through, or refuses it; and tells it. */
export class AdminGate {
  readonly #options: AdminGateOptions;

  constructor(options: AdminGateOptions) {
    this.#options = options;
  }

  /**
   * Calls of one user, program and method share an event in each minute, with their number: the acts
   * themselves are events of their own.
   * @throws Fault PERMISSION_DENIED
   */
  admit(caller: LocalCaller, method: string): void {
    const { mode, refusals } = this.#options;
    const isRefused = mode.isLimited && !LIMITED_RPCS.has(method);
    const { uid, executable } = caller;
    const [type, outcome] = isRefused
      ? (['admin.call_refused', Outcome.DENIED] as const)
      : (['admin.called', Outcome.SUCCESS] as const);
    refusals.count(`${type}|${uid}|${executable}|${method}`, {
      ...{ type, outcome, actor: actorOf(caller), attributes: { method } },
    });
    if (isRefused)
      throw new Fault(
        'PERMISSION_DENIED',
        `the admin socket is limited: ${method} is open to it only after a start with admin_socket: open`,
      );
  }
}
