/**
 * The Workload API's socket. Anyone on the machine may connect: who calls is told by the kernel, and
 * what it gets by the selectors it holds at that moment.
 */
import { chmod, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { SpiffeWorkloadAPI } from '../../proto/gen/spiffe/workload/workload_pb.ts';
import { Closers } from '../../runtime/closers.ts';
import { Fault } from '../../runtime/fault.ts';
import { RpcServer } from '../../runtime/grpc-server.ts';
import type { Logger } from '../../runtime/log.ts';
import { makeDirectory } from '../../runtime/make-directory.ts';
import type { Peer } from '../../runtime/peer-credentials.ts';
import { listenUnix } from '../../runtime/unix-socket.ts';
import type { WorkloadAttestor } from '../plugins/workload-attestor/workload-attestor.ts';
import { attestPeer } from '../workload/attest-peer.ts';
import { UserLimit } from './user-limit.ts';
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

export interface WorkloadEndpointOptions extends WorkloadServiceOptions {
  /** Of the socket, at most 107 bytes. */
  readonly path: string;
  readonly attestors: readonly WorkloadAttestor[];
  readonly log: Logger;
  /** A call that has ended; `method` is one of the API's, or `other`. */
  onCall(outcome: { readonly method: string; readonly code: string }): void;
  /** A connection that ended without a call, or that was turned away. */
  onRefused(): void;
}

const METHODS = new Map(
  SpiffeWorkloadAPI.methods.map(({ name }) => [`/${SpiffeWorkloadAPI.typeName}/${name}`, name]),
);

/** @throws Fault `STATE_UNUSABLE` if the socket cannot be made */
export async function listenWorkloadApi(
  options: WorkloadEndpointOptions,
): Promise<AsyncDisposable> {
  const { path, attestors, log } = options;
  await makeOpenDirectory(dirname(path));
  const connections = new UserLimit(CONNECTIONS_PER_USER);
  const streams = new UserLimit(STREAMS_PER_USER);
  const rpc = new RpcServer<Peer, WorkloadPeer>({
    guard: ({ peer, metadata }) => {
      requireSecurityHeader(metadata);
      return {
        selectors: () => attestPeer(peer, attestors, log),
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

  const closers = new Closers();
  const socket = await listenUnix({
    path,
    mode: 0o777,
    onConnection: (connection, peer) => {
      if (connections.enter(peer.uid)) {
        connection.once('close', () => connections.leave(peer.uid));
        rpc.inject(connection, peer);
        return;
      }
      log.warn(
        { peer_uid: peer.uid, peer_pid: peer.pid },
        'workload connection refused: too many of one user',
      );
      options.onRefused();
      connection.destroy();
    },
    onRefused: (reason) => {
      log.warn({ err: reason }, 'workload connection refused');
      options.onRefused();
    },
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

async function makeOpenDirectory(path: string): Promise<void> {
  try {
    if ((await stat(path).catch(() => undefined))?.isDirectory() === true) return;
    await makeDirectory(path, 0o755);
    // Whatever the umask: everybody is to reach the socket.
    await chmod(path, 0o755);
  } catch (cause) {
    throw new Fault('STATE_UNUSABLE', `the directory ${path} cannot be made`, { cause });
  }
}
