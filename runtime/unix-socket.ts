import { once } from 'node:events';
import { chmod, lstat, unlink } from 'node:fs/promises';
import net from 'node:net';
import { Fault } from './fault.ts';
import { type Peer, peerCredentials } from './peer-credentials.ts';

/** What `sun_path` holds, less its closing zero byte. */
export const MAXIMUM_SOCKET_PATH_BYTES = 107;

const MAXIMUM_CONNECTIONS = 1024;

export interface UnixListenOptions {
  /** At most 107 bytes. Its directory is the caller's to make and to guard. */
  readonly path: string;
  /** Of the socket's file, e.g. 0o600. */
  readonly mode: number;
  /** The socket is destroyed by whoever takes it; `peer` is let go when it closes. */
  onConnection(socket: net.Socket, peer: Peer): void;
  /** A connection whose peer the kernel does not name; it has been destroyed. */
  onRefused?(reason: Fault): void;
}

/**
 * Listens on a Unix socket, each connection with its peer. Disposing it closes the connections too.
 * @throws Fault STATE_UNUSABLE if the path cannot be used or another process listens there
 */
export async function listenUnix(options: UnixListenOptions): Promise<AsyncDisposable> {
  const { path, mode } = options;
  if (Buffer.byteLength(path) > MAXIMUM_SOCKET_PATH_BYTES) {
    const limit = `longer than ${MAXIMUM_SOCKET_PATH_BYTES} bytes`;
    throw new Fault('STATE_UNUSABLE', `socket path ${path} is ${limit}`);
  }
  await removeDeadSocket(path);
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => accept(socket, sockets, options));
  server.maxConnections = MAXIMUM_CONNECTIONS;
  try {
    await bind(server, path, mode);
    await chmod(path, mode);
  } catch (error) {
    server.close();
    throw new Fault('STATE_UNUSABLE', `cannot listen on ${path}: ${reasonOf(error)}`, {
      cause: error,
    });
  }
  return {
    async [Symbol.asyncDispose]() {
      const closed = server.listening ? once(server, 'close') : undefined;
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/** The umask closes the moment between bind and chmod; bind happens within `listen`. */
async function bind(server: net.Server, path: string, mode: number): Promise<void> {
  const before = process.umask(0o777 & ~mode);
  try {
    server.listen(path);
  } finally {
    process.umask(before);
  }
  await once(server, 'listening');
}

function accept(
  socket: net.Socket,
  sockets: Set<net.Socket>,
  { onConnection, onRefused }: UnixListenOptions,
): void {
  // A reset of the peer is an event of every day; whoever reads the socket sees it close.
  socket.on('error', () => undefined);
  let peer: Peer;
  try {
    peer = peerCredentials(socket);
  } catch (error) {
    socket.destroy();
    onRefused?.(Fault.from(error));
    return;
  }
  sockets.add(socket);
  socket.once('close', () => {
    sockets.delete(socket);
    peer.close();
  });
  onConnection(socket, peer);
}

/** What a process that was killed leaves behind may go; anything else stays and is an error. */
async function removeDeadSocket(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new Fault('STATE_UNUSABLE', `${path} is there already and is no socket`);
  }
  const error = await connectError(path);
  if (error === undefined) {
    throw new Fault('STATE_UNUSABLE', `another process listens on ${path}`);
  }
  if (error.code !== 'ECONNREFUSED') {
    throw new Fault('STATE_UNUSABLE', `cannot tell whether ${path} is in use`, { cause: error });
  }
  await unlink(path);
}

function connectError(path: string): Promise<NodeJS.ErrnoException | undefined> {
  return new Promise((resolve) => {
    const probe = net.connect(path);
    probe.once('error', resolve);
    probe.once('connect', () => {
      probe.destroy();
      resolve(undefined);
    });
  });
}

function reasonOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
}
