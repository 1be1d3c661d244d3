/**
 * SSH's server side: the login by public key, sessions and direct-tcpip channels. Everything that a
 * client asks for beyond these is refused here, whatever the handlers are.
 */
import type { Duplex } from 'node:stream';
import type { SshReader } from '../../../../identity/ssh/wire.ts';
import { Fault } from '../../../../runtime/fault.ts';
import { Authentication, type AuthenticationOptions } from './ssh2-authentication.ts';
import { ChannelTable, type OpenRequest } from './ssh2-channel-table.ts';
import { algorithmOffer, type HostKey, hostSigners } from './ssh2-host-keys.ts';
import { SERVER_IDENT } from './ssh2-ident.ts';
import type { KeyExchange, Protocol } from './ssh2-internals.ts';
import { DISCONNECT, MESSAGE, message, OPEN_FAILURE, violation } from './ssh2-messages.ts';
import { ServerSession, type SessionHandlers } from './ssh2-server-session.ts';
import { SshTransport, type TransportLimits, type TransportRole } from './ssh2-transport.ts';

export type { AuthenticationAnswer, PublicKeyAttempt } from './ssh2-authentication.ts';
export type { HostKey } from './ssh2-host-keys.ts';
export type { ServerChannel, SessionHandlers } from './ssh2-server-session.ts';
export type { ExitStatus, PtyRequest, StartRequest, WindowSize } from './ssh2-session-values.ts';

export interface ServerHandlers {
  /**
   * Whether the key may log in; what rejects ends the connection. Other methods are refused without
   * asking.
   */
  authenticate: AuthenticationOptions['authenticate'];
  /** A session is asked for. Rejects with a Fault whose message the client is told. */
  session(): Promise<SessionHandlers>;
  /** A connection through this server is asked for; the same. */
  directTcpip(destination: Destination): Promise<(channel: Duplex) => void>;
}

export interface Destination {
  /** Untrusted, at most 255 bytes. */
  readonly host: string;
  readonly port: number;
}

export interface ServeSshOptions {
  /** A socket, or a channel of another connection. It is closed with the connection. */
  readonly stream: Duplex;
  readonly hostKeys: readonly HostKey[];
  readonly maximumAttempts: number;
  /** Channels that are open or being opened at once. */
  readonly maximumChannels: number;
  readonly handlers: ServerHandlers;
  readonly limits?: TransportLimits;
}

export interface SshServerConnection {
  /** Rejects with a Fault when the connection ends before; nobody needs to look at it. */
  readonly authenticated: Promise<void>;
  /** Resolves when the stream is closed. */
  readonly closed: Promise<void>;
  /** Tells the client the reason and closes; takes less than half a second if it does not read. */
  end(reason: string): void;
  destroy(): void;
}

/** For whoever serves and sets no grace of its own. */
const LOGIN_GRACE_MS = 30_000;
const LONGEST_HOST = 255;

/** Signatures that a client may log in with. ssh2's own list has SHA-1, and lacks a comma. */
const SIGNATURE_ALGORITHMS = [
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'rsa-sha2-512',
  'rsa-sha2-256',
].join(',');

export function serveSsh(options: ServeSshOptions): SshServerConnection {
  return new ServerConnection(options);
}

class ServerConnection implements SshServerConnection {
  readonly authenticated: Promise<void>;
  readonly #options: ServeSshOptions;
  readonly #transport: SshTransport;
  readonly #authentication: Authentication;
  readonly #channels: ChannelTable;
  readonly #grace: NodeJS.Timeout;
  #accept: () => void = () => undefined;
  #fail: (reason: Fault) => void = () => undefined;
  #takesExtensions = false;

  constructor(options: ServeSshOptions) {
    this.#options = options;
    this.authenticated = new Promise((resolve, reject) => {
      this.#accept = resolve;
      this.#fail = reject;
    });
    this.authenticated.catch(() => undefined);
    const late = new Fault('UNAUTHENTICATED', 'no login in time');
    this.#grace = setTimeout(() => this.#transport.destroy(late), LOGIN_GRACE_MS);
    this.#transport = new SshTransport({
      stream: options.stream,
      ident: SERVER_IDENT,
      role: (protocol) => this.#role(protocol),
      ready: () => this.#tellExtensions(),
      message: (payload) => this.#receive(payload),
      closed: (reason) => this.#closed(reason),
      ...(options.limits === undefined ? {} : { limits: options.limits }),
    });
    this.#authentication = new Authentication({
      transport: this.#transport,
      maximumAttempts: options.maximumAttempts,
      authenticate: (attempt) => options.handlers.authenticate(attempt),
      accepted: () => this.#accepted(),
    });
    this.#channels = new ChannelTable({
      transport: this.#transport,
      maximum: options.maximumChannels,
      asked: (request) => this.#asked(request),
    });
  }

  get closed(): Promise<void> {
    return this.#transport.closed;
  }

  end(reason: string): void {
    this.#transport.disconnect(new Fault('UNAVAILABLE', reason), DISCONNECT.BY_APPLICATION);
  }

  destroy(): void {
    this.#transport.destroy(new Fault('UNAVAILABLE', 'the connection is closed'));
  }

  #role(protocol: () => Protocol): TransportRole {
    const hostKeys = hostSigners(this.#options.hostKeys, () => this.#exchange(protocol()));
    return { server: true, hostKeys, offer: algorithmOffer(Object.keys(hostKeys)) };
  }

  /** Called as the server signs; keeps ssh2 from sending its list of signature algorithms. */
  #exchange({ _kex: exchange }: Protocol): KeyExchange {
    if (exchange === undefined) throw new Error('ssh2: no key exchange');
    if (exchange.remoteExtInfoEnabled) this.#takesExtensions = true;
    exchange.remoteExtInfoEnabled = false;
    return exchange;
  }

  /** Source: RFC 8308 2.4: right after the first new keys. */
  #tellExtensions(): void {
    if (!this.#takesExtensions) return;
    const extensions = message(MESSAGE.EXT_INFO).u32(1).string('server-sig-algs');
    this.#transport.send(extensions.string(SIGNATURE_ALGORITHMS).finish());
  }

  #receive(payload: Buffer): void {
    const isConnections = (payload[0] ?? 0) >= MESSAGE.GLOBAL_REQUEST;
    if (!isConnections) this.#authentication.receive(payload);
    else if (this.#authentication.isAccepted) this.#channels.receive(payload);
    else throw violation('a message before the login');
  }

  #accepted(): void {
    clearTimeout(this.#grace);
    this.#transport.authenticated();
    this.#accept();
  }

  #closed(reason: Fault): void {
    clearTimeout(this.#grace);
    this.#fail(reason);
    // The stream may have been closed before the constructor was through.
    this.#channels?.drop();
  }

  #asked(request: OpenRequest): void {
    if (request.type === 'session') {
      request.reader.end();
      void this.#openSession(request);
    } else if (request.type === 'direct-tcpip') {
      void this.#openTcpip(request, readDestination(request.reader));
    } else {
      const code = OPEN_FAILURE.UNKNOWN_CHANNEL_TYPE;
      this.#channels.refuse(request, code, 'channel type not allowed');
    }
  }

  async #openSession(request: OpenRequest): Promise<void> {
    let session: ServerSession;
    try {
      session = new ServerSession(await this.#options.handlers.session());
    } catch (error) {
      this.#refuse(request, error);
      return;
    }
    const channel = this.#channels.confirm(request, {
      requested: (name, reader) => session.requested(name, reader),
      closed: () => session.closed(),
    });
    if (channel === undefined) session.closed();
    else session.channel = channel;
  }

  async #openTcpip(request: OpenRequest, destination: Destination): Promise<void> {
    let serve: (channel: Duplex) => void;
    try {
      serve = await this.#options.handlers.directTcpip(destination);
    } catch (error) {
      this.#refuse(request, error);
      return;
    }
    const handlers = { requested: () => false, closed: () => undefined };
    const channel = this.#channels.confirm(request, handlers);
    if (channel === undefined) return;
    try {
      serve(channel.duplex());
    } catch (error) {
      this.#transport.disconnect(Fault.from(error), DISCONNECT.BY_APPLICATION);
    }
  }

  #refuse(request: OpenRequest, error: unknown): void {
    const fault = Fault.from(error);
    const isInternal = fault.code === 'INTERNAL';
    const code = isInternal
      ? OPEN_FAILURE.CONNECT_FAILED
      : OPEN_FAILURE.ADMINISTRATIVELY_PROHIBITED;
    this.#channels.refuse(request, code, fault.message);
  }
}

function readDestination(reader: SshReader): Destination {
  const host = reader.text(LONGEST_HOST);
  const port = reader.u32();
  // The originator's address, which the client may say as it likes.
  reader.text(LONGEST_HOST);
  reader.u32();
  reader.end();
  return { host, port };
}
