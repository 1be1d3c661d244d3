import type { Bundle } from '../../identity/bundle.ts';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import type { WatchedSource } from '../../runtime/watched.ts';
import { backendService } from '../api/backend-service.ts';
import { gatewayRegistryService } from '../api/gateway-registry-service.ts';
import { gatewayService } from '../api/gateway-service.ts';
import { lockService } from '../api/lock-service.ts';
import { resourceService } from '../api/resource-service.ts';
import { secretService } from '../api/secret-service.ts';
import { sessionService } from '../api/session-service.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import { RotationClock } from '../governance/rotation-clock.ts';
import { RotationWork } from '../governance/rotation-work.ts';
import { Rotations } from '../governance/rotations.ts';
import type { BackendSetup } from '../plugins/backend-setup/backend-setup.ts';
import type { Datastore } from '../plugins/datastore/datastore.ts';
import type { KeyManager } from '../plugins/key-manager/key-manager.ts';
import type { Entries } from '../registry/entries.ts';
import { Logins } from '../secrets/logins.ts';
import { SecretSeal } from '../secrets/secret-seal.ts';
import { Secrets } from '../secrets/secrets.ts';
import { ResourceApplier } from './apply/apply-resources.ts';
import { GatewayLinks } from './gateway-links.ts';
import type { SshAuthorities } from './gateway-snapshot.ts';
import { GrantExpiry } from './grant-expiry.ts';
import { Locks } from './locks.ts';
import { SessionOpener } from './open-session.ts';
import { RecordingReplay } from './replay-recording.ts';
import { Resources } from './resources.ts';
import type { Revocations } from './revocations.ts';
import { SessionLeases } from './session-leases.ts';
import { Sessions } from './sessions.ts';

/** What access needs of the rest of the server. */
export interface AccessOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly log: Logger;
  readonly audit: AuditLog;
  /** Loaded: its `head` is the store's. */
  readonly revocations: Revocations;
  readonly trustDomain: TrustDomain;
  readonly bundle: WatchedSource<Bundle>;
  readonly sshAuthorities: WatchedSource<SshAuthorities>;
  /** See `ProofRule`. */
  isIssuedHere(chain: readonly Uint8Array[]): boolean;
  /** Longest session that any grant may allow. */
  readonly sessionMaximumSeconds: number;
  /** By the type of backend. */
  readonly backendSetups: ReadonlyMap<string, BackendSetup>;
  readonly entries: Pick<Entries, 'create'>;
  /** Wraps the keys of the vault's secrets. */
  readonly keys: Pick<KeyManager, 'wrapping'>;
  /** Has `catchUp` called whenever another server may have changed the store. */
  followStore(catchUp: () => Promise<void>): void;
  /** Destroys the connections of the gateway with this SPIFFE ID. */
  disconnectGateway(id: string): void;
}

const RETRY_MS = 1000;

/** Backends, grants, locks, sessions and gateways: the part of the server that decides who uses what. */
export interface Access extends AsyncDisposable {
  /** To be mounted: each implements the service of its name. */
  readonly services: AccessServices;
}

/** The implementations of the services of access. */
export type AccessServices = ReturnType<typeof makeServices>;

/** Builds access on a store that is open, and starts what runs by itself: leases and expiry. */
export async function createAccess(options: AccessOptions): Promise<Access> {
  const { store } = options;
  const resources = new Resources(store);
  await resources.load();
  options.followStore(() => resources.load());
  const sessions = new Sessions(options);
  const leases = new SessionLeases({ ...options, sessions });
  const links = new GatewayLinks({
    ...options,
    resources,
    leases,
    sessions,
    disconnect: (id) => options.disconnectGateway(id),
  });
  const expiry = new GrantExpiry({ ...options, resources });
  const secrets = new Secrets({ ...options, resources, seal: new SecretSeal(options) });
  const rotations = new Rotations({ ...options, resources, secrets });
  const rotationClock = new RotationClock({ ...options, resources, secrets, rotations });
  const controller = new AbortController();
  const { signal } = controller;
  const running = [
    keepRunning('grant expiry', (stop) => expiry.run(stop), options, signal),
    keepRunning('login rotation', (stop) => rotationClock.run(stop), options, signal),
    keepRunning('session leases', (stop) => leases.run(stop), options, signal),
  ];
  return {
    services: makeServices(options, { resources, sessions, links, secrets, rotations }),
    async [Symbol.asyncDispose]() {
      controller.abort();
      await Promise.all(running);
    },
  };
}

interface AccessParts {
  readonly resources: Resources;
  readonly sessions: Sessions;
  readonly links: GatewayLinks;
  readonly secrets: Secrets;
  readonly rotations: Rotations;
}

function makeServices(
  options: AccessOptions,
  { resources, sessions, links, secrets, rotations }: AccessParts,
) {
  const { store, trustDomain } = options;
  const applier = new ResourceApplier({ ...options, resources });
  const seal = new SecretSeal(options);
  const logins = new Logins({ ...options, seal });
  const work = new RotationWork({ ...options, resources, seal, secrets, rotations });
  return {
    gateway: gatewayService({ links, sessions, logins, work, opener: new SessionOpener(options) }),
    secret: secretService({ reader: store, secrets, rotations }),
    gatewayRegistry: gatewayRegistryService(options),
    resource: resourceService({ reader: store, applier }),
    backend: backendService({ reader: store, setups: options.backendSetups, applier }),
    session: sessionService({ sessions, replay: new RecordingReplay({ ...options, links }) }),
    lock: lockService({
      reader: store,
      locks: new Locks({ ...options, resources }),
      trustDomain,
    }),
  };
}

/** Runs a part until `signal` aborts; a failure of the store stops it for a second, not for good. */
async function keepRunning(
  part: string,
  run: (signal: AbortSignal) => Promise<void>,
  { log, clock }: Pick<AccessOptions, 'log' | 'clock'>,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await run(signal);
    } catch (error) {
      if (signal.aborted) return;
      log.error({ part, err: error }, 'A part of access failed and is started again');
      await clock.wait(RETRY_MS, signal).catch(() => undefined);
    }
  }
}
