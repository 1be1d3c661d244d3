/**
 * SSH's client side: a login with a certificate, and sessions. The host's key is always looked at, and
 * nothing that the server asks for is granted.
 */
import type { KeyObject } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { CERTIFICATE_SUFFIX } from '../../../../identity/ssh/public-key.ts';
import { Fault } from '../../../../runtime/fault.ts';
import { ChannelTable } from './ssh2-channel-table.ts';
import { ClientLogin } from './ssh2-client-login.ts';
import { type ClientChannel, type ClientStartRequest, openSession } from './ssh2-client-session.ts';
import { algorithmOffer, hostKeyAlgorithms } from './ssh2-host-keys.ts';
import { CLIENT_IDENT, knowsEndOfWrite } from './ssh2-ident.ts';
import type { Protocol } from './ssh2-internals.ts';
import { DISCONNECT, MESSAGE, OPEN_FAILURE, printable, violation } from './ssh2-messages.ts';
import { SshTransport, type TransportLimits, type TransportRole } from './ssh2-transport.ts';

export type { ClientChannel, ClientStartRequest } from './ssh2-client-session.ts';
export type { ExitStatus, PtyRequest, WindowSize } from './ssh2-session-values.ts';

export interface SshClientOptions {
  /** A connected socket. It is closed with the connection. */
  readonly stream: Duplex;
  /** The account. */
  readonly user: string;
  readonly privateKey: KeyObject;
  /** Over the private key. */
  readonly certificate: Uint8Array;
  /**
   * Called at each key exchange with the key or certificate that the server shows; that it has the
   * private key is proved after. @returns why it is refused
   */
  verifyHost(hostKey: Uint8Array): string | undefined;
  /** What to ask the server for: its certificate, or keys of these types (`ssh-ed25519`, ...). */
  readonly hostKeyTypes: 'certificate' | readonly string[];
  /** Ends the login when it aborts. It has no say afterwards. */
  readonly signal: AbortSignal;
  readonly limits?: TransportLimits;
}

export interface SshClientConnection {
  /** @throws Fault UNAVAILABLE when the server refuses */
  open(request: ClientStartRequest): Promise<ClientChannel>;
  /** Resolves when the connection is over, before the `exit` of its channels does for that. */
  readonly closed: Promise<void>;
  end(): void;
  destroy(): void;
}

/** A host certificate of an RSA key is not among them: ssh2 cannot check its signature. */
const CERTIFICATE_TYPES = [
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
].map((type) => `${type}${CERTIFICATE_SUFFIX}`);

const LOGIN_TIMEOUT_MS = 20_000;

/**
 * Logs in.
 * @throws Fault UNAVAILABLE with a message for people, or the signal's reason
 */
export async function connectSsh(options: SshClientOptions): Promise<SshClientConnection> {
  const connection = new ClientConnection(options);
  await connection.ready;
  return connection;
}

class ClientConnection implements SshClientConnection {
  readonly ready: Promise<void>;
  readonly closed: Promise<void>;
  readonly #options: SshClientOptions;
  readonly #transport: SshTransport;
  readonly #login: ClientLogin;
  readonly #channels: ChannelTable;
  readonly #timeout: NodeJS.Timeout;
  readonly #abort = () => this.#transport.destroy(stopReason(this.#options.signal));
  #accept: () => void = () => undefined;
  #fail: (reason: Fault) => void = () => undefined;
  #close: () => void = () => undefined;
  #hostRefused: string | undefined;

  constructor(options: SshClientOptions) {
    this.#options = options;
    this.ready = new Promise((resolve, reject) => {
      this.#accept = resolve;
      this.#fail = reject;
    });
    this.closed = new Promise((resolve) => {
      this.#close = resolve;
    });
    const late = new Fault('UNAVAILABLE', 'the target does not finish the login in time');
    this.#timeout = setTimeout(() => this.#transport.destroy(late), LOGIN_TIMEOUT_MS);
    this.#transport = new SshTransport({
      stream: options.stream,
      ident: CLIENT_IDENT,
      role: (protocol) => this.#role(protocol),
      ready: () => this.#login.start(),
      message: (payload) => this.#receive(payload),
      closed: (reason) => this.#closed(reason),
      ...(options.limits === undefined ? {} : { limits: options.limits }),
    });
    this.#login = new ClientLogin({ ...options, transport: this.#transport });
    this.#channels = new ChannelTable({
      transport: this.#transport,
      maximum: Number.MAX_SAFE_INTEGER,
      asked: (request) => {
        const code = OPEN_FAILURE.ADMINISTRATIVELY_PROHIBITED;
        this.#channels.refuse(request, code, 'no channel of a server is accepted');
      },
    });
    if (options.signal.aborted) this.#abort();
    if (!this.#transport.isOver) options.signal.addEventListener('abort', this.#abort);
  }

  open(request: ClientStartRequest): Promise<ClientChannel> {
    return openSession(this.#channels, request, {
      knowsEndOfWrite: knowsEndOfWrite(this.#transport.peerSoftware),
    });
  }

  end(): void {
    const reason = new Fault('UNAVAILABLE', 'the connection is closed');
    this.#transport.disconnect(reason, DISCONNECT.BY_APPLICATION);
  }

  destroy(): void {
    this.#transport.destroy(new Fault('UNAVAILABLE', 'the connection is closed'));
  }

  #role(protocol: () => Protocol): TransportRole {
    const { hostKeyTypes } = this.#options;
    const algorithms =
      hostKeyTypes === 'certificate' ? CERTIFICATE_TYPES : hostKeyTypes.flatMap(hostKeyAlgorithms);
    return {
      server: false,
      offer: algorithmOffer(algorithms),
      hostVerifier: (hostKey) => this.#verifyHost(hostKey, protocol()),
    };
  }

  /** For ssh2, which then checks the signature over the key exchange. */
  #verifyHost(hostKey: Buffer, { _kex: exchange }: Protocol): boolean {
    this.#hostRefused = this.#options.verifyHost(hostKey);
    if (this.#hostRefused !== undefined || exchange === undefined) return false;
    // With a certificate the signature names the key's own algorithm.
    const { negotiated } = exchange;
    if (negotiated.serverHostKey.endsWith(CERTIFICATE_SUFFIX)) {
      negotiated.serverHostKey = negotiated.serverHostKey.slice(0, -CERTIFICATE_SUFFIX.length);
    }
    return true;
  }

  #unlink(): void {
    clearTimeout(this.#timeout);
    this.#options.signal.removeEventListener('abort', this.#abort);
  }

  #receive(payload: Buffer): void {
    const number = payload[0] ?? 0;
    if (number < MESSAGE.GLOBAL_REQUEST) {
      if (!this.#login.receive(payload)) return;
      this.#transport.authenticated();
      this.#unlink();
      this.#accept();
    } else if (this.#login.isAccepted) {
      this.#channels.receive(payload);
    } else {
      throw violation('a message before the login');
    }
  }

  #closed(reason: Fault): void {
    this.#unlink();
    this.#fail(this.#explain(reason));
    this.#close();
    this.#channels?.drop();
  }

  /** What a person is told who wanted to log in. */
  #explain(reason: Fault): Fault {
    if (this.#options.signal.aborted) return reason;
    const text = this.#hostRefused
      ? `the target's host key is refused: ${this.#hostRefused}`
      : loginFailure(reason.message, this.#options.hostKeyTypes);
    return new Fault('UNAVAILABLE', printable(text), { cause: reason });
  }
}

/** @param text may be the server's, or ssh2's */
function loginFailure(text: string, hostKeyTypes: SshClientOptions['hostKeyTypes']): string {
  if (/no matching host key format/i.test(text)) {
    return hostKeyTypes === 'certificate'
      ? 'the target has no host certificate'
      : "the target has no host key of the backend's types";
  }
  if (/^Handshake failed: no matching/i.test(text)) {
    return `the target's SSH server has no algorithm in common with the gateway (${text})`;
  }
  return /^the target /.test(text) ? text : `the login on the target failed: ${text}`;
}

function stopReason({ reason }: AbortSignal): Fault {
  return reason instanceof Fault ? reason : new Fault('UNAVAILABLE', 'the connection is closed');
}
