/**
 * Sockets for everybody on the machine: who connects is told by the kernel, and what it gets is decided
 * for each of its requests.
 */
import { chmod, stat } from 'node:fs/promises';
import type net from 'node:net';
import { dirname } from 'node:path';
import type { Clock } from '../../runtime/clock.ts';
import { DenialLimiter } from '../../runtime/denial-limiter.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Logger } from '../../runtime/log.ts';
import { makeDirectory } from '../../runtime/make-directory.ts';
import type { Peer } from '../../runtime/peer-credentials.ts';
import { listenUnix } from '../../runtime/unix-socket.ts';
import { UserLimit } from './user-limit.ts';

export interface LocalListenOptions {
  /** Of the socket, at most 107 bytes. Its directory is made if it is not there. */
  readonly path: string;
  readonly log: Logger;
  readonly clock: Clock;
  readonly connectionsPerUser: number;
  /** The socket is destroyed by whoever takes it. */
  onConnection(socket: net.Socket, peer: Peer): void;
  /** A connection that was turned away; it has been destroyed. */
  onRefused(): void;
}

/** @throws Fault `STATE_UNUSABLE` if the socket cannot be made */
export async function listenLocal(options: LocalListenOptions): Promise<AsyncDisposable> {
  const { path, log, clock, onConnection, onRefused } = options;
  await makeOpenDirectory(dirname(path));
  const lines = new DenialLimiter(clock);
  const connections = new UserLimit(options.connectionsPerUser);
  return await listenUnix({
    path,
    mode: 0o777,
    onConnection: (socket, peer) => {
      if (connections.enter(peer.uid)) {
        socket.once('close', () => connections.leave(peer.uid));
        onConnection(socket, peer);
        return;
      }
      if (lines.admit(String(peer.uid))) {
        log.warn(
          { peer_uid: peer.uid, peer_pid: peer.pid },
          'local connection refused: too many of one user',
        );
      }
      onRefused();
      socket.destroy();
    },
    onRefused: (reason) => {
      if (lines.admit('')) log.warn({ err: reason }, 'local connection refused');
      onRefused();
    },
  });
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
