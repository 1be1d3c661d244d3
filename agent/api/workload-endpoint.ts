/**
 * The Workload API's socket. Anyone on the machine may connect: who calls is told by the kernel, and
 * what it gets by the selectors it holds at that moment.
 */
import { SpiffeWorkloadAPI } from '../../proto/gen/spiffe/workload/workload_pb.ts';
import { SshService } from '../../proto/gen/writ/agent/v1/workload_pb.ts';
import { Closers } from '../../runtime/closers.ts';
import { Fault } from '../../runtime/fault.ts';
import { RpcServer } from '../../runtime/grpc-server.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Peer } from '../../runtime/peer-credentials.ts';
import type { WorkloadAttestor } from '../plugins/workload-attestor/workload-attestor.ts';
import type { SshServer } from '../ssh/server-calls.ts';
import { attestPeer } from '../workload/attest-peer.ts';
import { sshIdentities } from '../workload/ssh-identities.ts';
import { listenLocal } from './listen-local.ts';
import { type SshPeer, sshService } from './ssh-service.ts';
import { UserLimit } from './user-limit.ts';
import { UserTurns } from './user-turns.ts';
import {
  type WorkloadPeer,
  type WorkloadServiceOptions,
  workloadService,
} from './workload-service.ts';

const SECURITY_HEADER = 'workload.spiffe.io';
/** A JWT-SVID of 16 KiB and its audience fit; nothing larger is ever asked. */
const MAXIMUM_RECEIVE_BYTES = 64 * 1024;
const CONNECTIONS_PER_USER = 512;
/** Each costs an attestation whenever anything changes. */
const STREAMS_PER_USER = 2048;
/** Each costs an attestation of a whole lineage, and a call of the server. */
const SSH_CALLS_PER_USER = 8;

export interface WorkloadEndpointOptions extends WorkloadServiceOptions {
  /** Of the socket, at most 107 bytes. */
  readonly path: string;
  readonly attestors: readonly WorkloadAttestor[];
  readonly ssh: SshServer;
  /** Path of the ssh-agent's socket; undefined if there is none. */
  readonly sshAgent: string | undefined;
  readonly log: Logger;
  /** A call that has ended; `method` is one of those served here, or `other`. */
  onCall(outcome: { readonly method: string; readonly code: string }): void;
  /** A connection that ended without a call, or that was turned away. */
  onRefused(): void;
}

const METHODS = new Map(
  [SpiffeWorkloadAPI, SshService].flatMap(({ typeName, methods }) =>
    methods.map(({ name }) => [`/${typeName}/${name}`, name]),
  ),
);

/** @throws Fault `STATE_UNUSABLE` if the socket cannot be made */
export async function listenWorkloadApi(
  options: WorkloadEndpointOptions,
): Promise<AsyncDisposable> {
  const { path, attestors, ssh, sshAgent, log, clock } = options;
  const streams = new UserLimit(STREAMS_PER_USER);
  const sshTurns = new UserTurns(SSH_CALLS_PER_USER);
  const rpc = new RpcServer<Peer, WorkloadPeer & SshPeer>({
    guard: ({ peer, metadata }) => {
      requireSecurityHeader(metadata);
      return {
        selectors: (wanted) => attestPeer(peer, { attestors, log, wanted }),
        sshIdentities: () => sshIdentities(peer, options),
        inTurn: (work) => sshTurns.run(peer.uid, work),
        enterStream: () => {
          if (streams.enter(peer.uid)) return () => streams.leave(peer.uid);
          throw new Fault('UNAVAILABLE', 'too many streams of one user');
        },
      };
    },
    log,
    maxReceiveBytes: MAXIMUM_RECEIVE_BYTES,
    onSilentEnd: options.onRefused,
    onCall: ({ method, code }) => options.onCall({ method: METHODS.get(method) ?? 'other', code }),
  });
  rpc.add(SpiffeWorkloadAPI, workloadService(options));
  rpc.add(SshService, sshService({ server: ssh, sshAgent }));

  const closers = new Closers();
  const socket = await listenLocal({
    ...{ path, log, clock, connectionsPerUser: CONNECTIONS_PER_USER },
    onConnection: (connection, peer) => rpc.inject(connection, peer),
    onRefused: options.onRefused,
  });
  closers.defer(async () => await socket[Symbol.asyncDispose]());
  closers.defer(async () => await rpc[Symbol.asyncDispose]());
  return closers;
}

/** Source: SPIFFE Workload Endpoint 3: a guard against forged requests of a browser or proxy. */
function requireSecurityHeader(metadata: ReadonlyMap<string, readonly string[]>): void {
  const values = metadata.get(SECURITY_HEADER) ?? [];
  if (values.length === 1 && values[0] === 'true') return;
  throw new Fault('INVALID_ARGUMENT', `security header missing from request: ${SECURITY_HEADER}`);
}
