import { Fault } from '../../../../../runtime/fault.ts';
import type { WatchedSource } from '../../../../../runtime/watched.ts';
import type { GatewaySnapshot } from '../../../../access/snapshot.ts';
import {
  type SessionDesk,
  type SessionRequest,
  svidPeer,
} from '../../../../session/session-desk.ts';
import type { ClientConnection } from '../../backend.ts';
import { errorResponse, fatal, startupError } from '../wire/errors.ts';
import { CANCEL_REQUEST } from '../wire/frontend-messages.ts';
import { ClientSession, type ClientSessionOptions } from './client-session.ts';
import { ConnectionLife } from './connection-life.ts';
import { endClient } from './end-client.ts';
import { readCancel, readFirstPacket, readStartup, type Startup } from './startup.ts';

export interface ServeOptions
  extends Omit<ClientSessionOptions, 'socket' | 'session' | 'startup' | 'life'> {
  readonly desk: SessionDesk;
  readonly snapshot: Pick<WatchedSource<GatewaySnapshot>, 'value'>;
  readonly signal: AbortSignal;
}

/** From the last byte of the TLS handshake to a whole StartupMessage. */
const STARTUP_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 60_000;

/** Serves one client from its first decrypted byte to the end of its connection. */
export async function serveClient(
  connection: ClientConnection,
  options: ServeOptions,
): Promise<void> {
  const { socket } = connection;
  // Its close tells of every failure; without a listener an error would end the process.
  socket.on('error', () => undefined);
  socket.setNoDelay(true);
  socket.setKeepAlive(true, KEEP_ALIVE_MS);
  using life = new ConnectionLife(socket, options.signal);
  try {
    const startup = await readClientStartup(connection, options, life);
    if (startup === undefined) return;
    await using session = await options.desk.open(wishOf(startup, connection, options));
    life.follow(session.signal);
    life.follow(options.signal, (fault) => session.end(fault.message));
    await new ClientSession({ ...options, socket, session, startup, life }).run();
  } catch (error) {
    const fault = Fault.from(error);
    if (fault.code === 'INTERNAL') options.log.error({ err: error }, 'serving a client failed');
    await endClient(socket, errorResponse(startupError(fault)));
  }
}

/** @returns undefined if the connection wanted nothing more, or was refused and told so */
async function readClientStartup(
  { socket, direct, alpn, peer }: ClientConnection,
  { cancels, clientAddress }: ServeOptions,
  life: ConnectionLife,
): Promise<Startup | undefined> {
  if (direct && alpn !== 'postgresql') {
    await endClient(socket, fatal('08P01', 'direct TLS needs the ALPN protocol "postgresql"'));
    return undefined;
  }
  const timer = setTimeout(() => socket.destroy(), STARTUP_TIMEOUT_MS);
  const packet = await readFirstPacket(socket, life.signal).finally(() => clearTimeout(timer));
  if (packet === undefined) {
    await endClient(socket, fatal('08P01', 'malformed StartupMessage'));
    return undefined;
  }
  if (packet.code === CANCEL_REQUEST) {
    const cancel = readCancel(packet);
    const from = { clientAddress, spiffeId: String(peer.id) };
    if (cancel !== undefined) await cancels.cancel(cancel, from, life.signal);
    await endClient(socket, Buffer.alloc(0));
    return undefined;
  }
  const startup = readStartup(packet);
  if (!('sqlstate' in startup)) return startup;
  await endClient(socket, errorResponse(startup));
  return undefined;
}

/** A `user` that is no grant's name, as the one that psql takes from the system, names none. */
function wishOf(
  startup: Startup,
  { peer, address, socket }: ClientConnection,
  options: ServeOptions,
): SessionRequest {
  const grant = options.snapshot.value.grants.has(startup.user) ? startup.user : '';
  const { database: backend, client } = startup;
  const { servername: serverName } = socket;
  const wish = { backend, grant, peer: svidPeer(peer), address, client };
  return serverName ? { ...wish, serverName } : wish;
}
