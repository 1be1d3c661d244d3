import type { Attempt } from '../runtime/grpc-server.ts';
import { AdminSocketMode } from './admin-socket-mode.ts';
import { AdminGate } from './api/admin-gate.ts';
import { type CallerKind, identify, isMemberKind, type ServerPeer } from './api/callers.ts';
import { restoredGate } from './api/restored-gate.ts';
import { OwnIssuers } from './authority/issued-here.ts';
import { type Context, own } from './context.ts';
import { GatewayConnections } from './gateway-connections.ts';
import type { Core } from './open-core.ts';
import type { Registry } from './open-registry.ts';
import { RestoredLock } from './restored-lock.ts';
import { UnprovedConnections } from './unproved-connections.ts';

export type Callers = Awaited<ReturnType<typeof openCallers>>;

/** Who may call, and what shuts the server to them. */
export async function openCallers(context: Context, core: Core, registry: Registry) {
  const { config, store, clock, log, closers } = context;
  const { audit, refusals, revocations } = core;
  const unproved = new UnprovedConnections(clock);
  const prove = prover(context, core, registry, unproved);
  const gateways = own(
    closers,
    new GatewayConnections({ revocations: revocations.head, clock, log, prove }),
  );
  const mode = await AdminSocketMode.open({ store, audit, configured: config.admin_socket });
  const lock = await RestoredLock.open({ store, audit });
  if (lock.isLocked) log.warn('this server was restored: it serves nobody until it is unlocked');
  const gate = new AdminGate({ mode, refusals });
  return { unproved, prove, gateways, mode, lock, gate, restored: shutGate(context, lock) };
}

/** Proves who calls, for as long as the server runs. */
function prover(
  { store, clock }: Context,
  core: Core,
  { agents, adminIds }: Registry,
  unproved: UnprovedConnections,
) {
  const issuers = new OwnIssuers(core.authorities.state);
  const proof = { reader: store, clock, agents, adminIds };
  return async (peer: ServerPeer, wanted: readonly CallerKind[] = []) => {
    if (peer.kind === 'remote') issuers.require(peer.connection.peer);
    const caller = await identify(peer, proof, wanted);
    if (peer.kind === 'remote' && isMemberKind(caller.kind)) unproved.proved(peer.connection);
    return caller;
  };
}

/** Refuses what a restored server, or one whose clock cannot be right, is not to do. */
function shutGate({ clockGuard }: Context, lock: RestoredLock) {
  const restored = restoredGate(lock);
  return (attempt: Attempt<ServerPeer>): void => {
    clockGuard.refuseWhileAstray(attempt);
    restored(attempt);
  };
}
