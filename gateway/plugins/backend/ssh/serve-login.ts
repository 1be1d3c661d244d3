import type { KeyObject } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { Fault } from '../../../../runtime/fault.ts';
import type { SessionPeer } from '../../../session/session-desk.ts';
import { Authentication, type AuthenticationOptions } from './authenticate.ts';
import { notice } from './notice.ts';
import { NO_CERTIFICATE } from './prove-client.ts';
import {
  type ServerHandlers,
  type SessionHandlers,
  type SshServerConnection,
  serveSsh,
} from './ssh2-server.ts';

/** What a client that has logged in may do. Disposing it ends all that it does. */
export interface Admitted extends AsyncDisposable, Pick<ServerHandlers, 'session' | 'directTcpip'> {
  session(): Promise<SessionHandlers>;
  /** From the login to the end of the connection. */
  run(client: SshServerConnection): Promise<void>;
}

export interface LoginOptions extends Pick<AuthenticationOptions, 'prove' | 'refused' | 'log'> {
  /** A socket, or a channel of another connection. */
  readonly stream: Duplex;
  readonly key: KeyObject;
  /** Over `key`, for the names by which the client comes. */
  readonly certificate: Uint8Array;
  /** As `Authentication`'s, with what the client may then do. */
  admit(user: string, peer: SessionPeer): Promise<Admitted>;
  /** The client is in. */
  authenticated(): void;
  /** Aborts when the connection must end. */
  readonly signal: AbortSignal;
}

const MOST_ATTEMPTS = 6;
const MOST_CHANNELS = 10;

/** Serves one SSH connection from its first byte to the end. Does not reject. */
export async function serveLogin(options: LoginOptions): Promise<void> {
  const { stream, key, certificate, signal } = options;
  let admitted: Admitted | undefined;
  const authentication = new Authentication({
    ...options,
    admit: async (user, peer) => {
      admitted = await options.admit(user, peer);
    },
  });
  // Before the listeners of the connection's owner, who else tells of a client without a login.
  stream.prependOnceListener('close', () => {
    if (authentication.onlyPlainKeys) options.refused(NO_CERTIFICATE);
  });
  const whoIsIn = (): Admitted => {
    if (admitted === undefined) throw new Fault('PERMISSION_DENIED', 'log in first');
    return admitted;
  };
  const client = serveSsh({
    stream,
    hostKeys: [{ privateKey: key, certificate }],
    maximumAttempts: MOST_ATTEMPTS,
    maximumChannels: MOST_CHANNELS,
    handlers: {
      authenticate: (attempt) => authentication.authenticate(attempt),
      session: async () => whoIsIn().session(),
      directTcpip: async (destination) => whoIsIn().directTcpip(destination),
    },
  });
  const stop = () => client.end(notice('the gateway is stopping'));
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  try {
    await client.authenticated;
    signal.removeEventListener('abort', stop);
    options.authenticated();
    await whoIsIn().run(client);
  } catch (error) {
    const fault = Fault.from(error);
    if (fault.code === 'INTERNAL') options.log.error({ err: error }, 'serving a client failed');
  } finally {
    signal.removeEventListener('abort', stop);
    client.destroy();
    await authentication.close();
    await admitted?.[Symbol.asyncDispose]();
  }
}
