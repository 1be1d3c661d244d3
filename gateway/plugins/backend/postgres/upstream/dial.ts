import { once } from 'node:events';
import { connect, isIP, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import type { PostgresBackend } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../../../../runtime/fault.ts';
import { sslRequest } from '../wire/frontend-messages.ts';
import { readExactly } from '../wire/read-exactly.ts';
import { backendContext } from './client-proof.ts';

/** Where a backend is and how it is recognised. */
export type BackendAddress = Pick<PostgresBackend, 'host' | 'port' | 'tls'>;

const THIS_HOST = /^(localhost|127(\.\d{1,3}){3}|::1)$/;
const S = 0x53;

/**
 * A connection to a backend, encrypted and its certificate verified unless the backend is on this
 * host and says otherwise.
 * @throws Fault BACKEND_FAILED, or the signal's reason when it aborts
 */
export async function dialBackend(address: BackendAddress, signal: AbortSignal): Promise<Socket> {
  if (address.tls === undefined && !isThisHost(address.host)) {
    throw new Fault('BACKEND_FAILED', 'the backend is not on this host and names no TLS settings');
  }
  const socket = connect({ host: address.host, port: address.port, noDelay: true });
  // `close` tells of every failure too; without a listener an error would end the process.
  socket.on('error', () => undefined);
  const abort = () => socket.destroy();
  signal.addEventListener('abort', abort);
  try {
    await once(socket, 'connect', { signal });
    const ready = address.tls === undefined ? socket : await startTls(socket, address.tls, signal);
    ready.on('error', () => undefined);
    return ready;
  } catch (error) {
    socket.destroy();
    signal.throwIfAborted();
    if (error instanceof Fault) throw error;
    throw new Fault('BACKEND_FAILED', 'the backend cannot be reached', { cause: error });
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/** Whether no network lies between, so that a backend may go without TLS. */
export function isThisHost(host: string): boolean {
  return THIS_HOST.test(host);
}

async function startTls(
  socket: Socket,
  tls: NonNullable<BackendAddress['tls']>,
  signal: AbortSignal,
): Promise<TLSSocket> {
  const secureContext = await backendContext(tls);
  socket.write(sslRequest());
  const answer = await readExactly(socket, 1, signal);
  if (answer?.[0] !== S || socket.readableLength > 0) {
    throw new Fault('BACKEND_FAILED', 'the backend refuses TLS');
  }
  const secure = connectTls({
    socket,
    secureContext,
    // `host` is what the certificate is checked against; an address must not be sent as SNI.
    host: tls.serverName,
    ...(isIP(tls.serverName) === 0 ? { servername: tls.serverName } : {}),
    rejectUnauthorized: true,
  });
  await once(secure, 'secureConnect', { signal });
  return secure;
}
