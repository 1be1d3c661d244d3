/**
 * The one TLS listener of every port, and the client that fits it. Against strangers: TLS 1.3 alone;
 * no session is ever resumed (a resumed one inherits the verdict on a certificate that was not shown
 * again); the chain is judged by `verifySvid` after the handshake and before a byte is handed on; a
 * certificate that does not verify ends the connection even where none is needed; preface and
 * handshake share one deadline; connections are capped, in all and for each address.
 */
import { constants } from 'node:crypto';
import net from 'node:net';
import tls from 'node:tls';
import type { Clock } from '../runtime/clock.ts';
import { Fault } from '../runtime/fault.ts';
import type { TlsClientOptions } from '../runtime/grpc-client.ts';
import type { WatchedSource } from '../runtime/watched.ts';
import type { Authorizer } from './authorizer.ts';
import { type Bundle, bundleToPem, keepsX509Authorities } from './bundle.ts';
import { ConnectionLimits } from './connection-limits.ts';
import { addressOf, endpointsOf, peerChain } from './tls-peer.ts';
import { svidRefusal, type VerifiedSvid, verifySvid } from './verify.ts';
import type { RevocationView } from './x509/crl-view.ts';
import { svidPem, type X509Svid } from './x509-svid.ts';

/** A connection whose handshake is done and whose peer has been verified. */
export interface SecureConnection {
  readonly socket: tls.TLSSocket;
  /** Undefined where no certificate is required and none was shown. */
  readonly peer: VerifiedSvid | undefined;
  /** `ip:port` of the other end. */
  readonly address: string;
  /** Whether TLS began with the first byte: there was no preface. */
  readonly direct: boolean;
  readonly alpn: string | false;
}

/** A connection that was ended. The reason is one of a closed set, without a word of the peer's. */
export interface ConnectionRefusal {
  /** IP of the other end. */
  readonly address: string;
  /** Of ours. */
  readonly port: number;
  readonly reason: string;
}

export interface SvidServerOptions {
  readonly svid: WatchedSource<X509Svid>;
  readonly bundles: WatchedSource<Bundle>;
  /** Whether a client must show a certificate. One that it shows must verify in either case. */
  readonly client: 'required' | 'optional';
  /** Protocols to choose from; a client that offers others only is refused. May be empty. */
  readonly alpn: readonly string[];
  readonly clock: Clock;
  /** What revocation lists say of new connections' peers; none are looked at unless told. */
  readonly revocation?: RevocationView;
  /**
   * Reads what a client sends before its ClientHello, and leaves no byte consumed beyond that:
   * `socket.unshift` what is not its own. `done` means that it has answered and closed.
   */
  preface?(socket: net.Socket, signal: AbortSignal): Promise<'tls' | 'done'>;
  onConnection(connection: SecureConnection): void;
  onRefused(refusal: ConnectionRefusal): void;
  /** Covers preface and handshake. */
  readonly handshakeTimeoutMs?: number;
  readonly maximumPerAddress?: number;
  readonly maximumConnections?: number;
}

const DEFAULTS = {
  handshakeTimeoutMs: 10_000,
  maximumPerAddress: 1000,
  maximumConnections: 10_000,
} as const;

const KEEP_ALIVE_MS = 60_000;
const BATCH = 50;
const CLOSED_EARLY = 'closed before the handshake ended';

/** One accepted TCP connection, from its first moment to its end. */
interface Arrival {
  readonly raw: net.Socket;
  readonly ip: string;
  readonly port: number;
  /** Aborts when the handshake is done, refused or too late. */
  readonly arriving: AbortController;
  direct: boolean;
}

/** Listens for peers that prove themselves by X509-SVID. Disposing it ends every connection. */
export class SvidServer implements AsyncDisposable {
  readonly #options: SvidServerOptions;
  readonly #limits: ConnectionLimits;
  readonly #handshakeTimeoutMs: number;
  readonly #listener: net.Server;
  readonly #tls: tls.Server;
  readonly #ending = new AbortController();
  readonly #watching: Promise<unknown>;
  readonly #arrivals = new Map<string, Arrival>();
  readonly #live = new Map<SecureConnection, Arrival>();

  constructor(options: SvidServerOptions) {
    this.#options = options;
    this.#handshakeTimeoutMs = options.handshakeTimeoutMs ?? DEFAULTS.handshakeTimeoutMs;
    this.#limits = new ConnectionLimits({
      maximumPerAddress: options.maximumPerAddress ?? DEFAULTS.maximumPerAddress,
      maximumConnections: options.maximumConnections ?? DEFAULTS.maximumConnections,
    });
    // Its connections are handed to it after their preface; it never listens itself.
    this.#tls = tls.createServer({
      ...serverContext(options.svid.value),
      requestCert: true,
      rejectUnauthorized: false,
      handshakeTimeout: 2 * this.#handshakeTimeoutMs,
      ...(options.alpn.length === 0 ? {} : { ALPNProtocols: [...options.alpn] }),
    });
    this.#tls.on('secureConnection', (socket) => this.#secured(socket));
    this.#tls.on('tlsClientError', (error, socket) => {
      const arrival = this.#arrivals.get(endpointsOf(socket));
      if (arrival !== undefined) this.#refuse(arrival, handshakeReason(error));
    });
    const tcp = { noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS };
    this.#listener = net.createServer(tcp, (raw) => this.#accept(raw));
    // An accept may fail, as when no descriptor is left: the client's loss, not the listener's end.
    this.#listener.on('error', () => undefined);
    this.#watching = Promise.all([this.#watchSvid(), this.#watchBundle()]);
  }

  /** @throws Fault STATE_UNUSABLE if the address cannot be had */
  async listen(host: string, port: number): Promise<{ host: string; port: number }> {
    await new Promise<void>((resolve, reject) => {
      this.#listener.once('error', (cause: NodeJS.ErrnoException) => {
        const message = `cannot listen on ${host}:${port}: ${cause.code ?? 'unknown reason'}`;
        reject(new Fault('STATE_UNUSABLE', message, { cause }));
      });
      this.#listener.listen({ host, port }, resolve);
    });
    const bound = this.#listener.address();
    if (bound === null || typeof bound === 'string') throw new Error('not bound to a TCP port');
    return { host: bound.address, port: bound.port };
  }

  /** Ends the live connections that `predicate` names. */
  disconnect(predicate: (connection: SecureConnection) => boolean): void {
    for (const [connection, { raw }] of this.#live) if (predicate(connection)) raw.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    const closed = this.#listener.listening
      ? new Promise<void>((resolve) => this.#listener.close(() => resolve()))
      : undefined;
    for (const { raw } of this.#arrivals.values()) raw.destroy();
    await closed;
    await this.#watching;
  }

  #accept(raw: net.Socket): void {
    // A reset by the peer is an event of every day; 'close' follows.
    raw.on('error', () => undefined);
    const ip = addressOf(raw);
    const port = raw.localPort;
    if (ip === undefined || port === undefined) {
      raw.destroy();
      return;
    }
    const arrival = { raw, ip, port, arriving: new AbortController(), direct: true };
    const limit = this.#limits.enter(ip);
    if (limit === undefined) this.#admit(arrival);
    else this.#refuse(arrival, limit);
  }

  #admit(arrival: Arrival): void {
    const { raw, ip } = arrival;
    const endpoints = endpointsOf(raw);
    this.#arrivals.set(endpoints, arrival);
    raw.once('close', () => {
      this.#arrivals.delete(endpoints);
      this.#limits.leave(ip);
      if (this.#ending.signal.aborted) arrival.arriving.abort();
      this.#refuse(arrival, CLOSED_EARLY);
    });
    void this.#arrive(arrival);
  }

  async #arrive(arrival: Arrival): Promise<void> {
    const { raw, arriving } = arrival;
    void this.#options.clock.wait(this.#handshakeTimeoutMs, arriving.signal).then(
      () => this.#refuse(arrival, 'handshake took too long'),
      () => undefined,
    );
    try {
      if ((await this.#options.preface?.(raw, arriving.signal)) === 'done') {
        arriving.abort();
        raw.destroySoon();
        return;
      }
    } catch {
      this.#refuse(arrival, raw.bytesRead === 0 ? CLOSED_EARLY : 'preface malformed');
    }
    if (arriving.signal.aborted || raw.destroyed) return;
    arrival.direct = raw.bytesRead === raw.readableLength;
    raw.pause();
    this.#tls.emit('connection', raw);
  }

  /** The certificate, if there is one, is judged here; until then nothing reads the socket. */
  #secured(socket: tls.TLSSocket): void {
    socket.on('error', () => undefined);
    const arrival = this.#arrivals.get(endpointsOf(socket));
    if (arrival === undefined || arrival.arriving.signal.aborted) {
      socket.destroy();
      return;
    }
    let peer: VerifiedSvid | undefined;
    try {
      peer = this.#verifyPeer(socket);
    } catch (error) {
      this.#refuse(arrival, svidRefusal(error) ?? 'certificate unreadable');
      return;
    }
    const refused = this.#reasonAgainst(socket, peer);
    if (refused !== undefined) {
      this.#refuse(arrival, refused);
      return;
    }
    arrival.arriving.abort();
    const connection: SecureConnection = {
      socket,
      peer,
      address: `${net.isIPv6(arrival.ip) ? `[${arrival.ip}]` : arrival.ip}:${socket.remotePort}`,
      direct: arrival.direct,
      alpn: socket.alpnProtocol ?? false,
    };
    this.#live.set(connection, arrival);
    socket.once('close', () => this.#live.delete(connection));
    this.#options.onConnection(connection);
  }

  #verifyPeer(socket: tls.TLSSocket): VerifiedSvid | undefined {
    const chain = peerChain(socket.getPeerCertificate(true));
    if (chain.length === 0) return undefined;
    const { clock, revocation } = this.#options;
    return verifySvid(chain, this.#bundleOf, clock.now(), revocation);
  }

  #reasonAgainst(socket: tls.TLSSocket, peer: VerifiedSvid | undefined): string | undefined {
    if (socket.isSessionReused()) return 'session resumed';
    if (socket.getProtocol() !== 'TLSv1.3') return 'not TLS 1.3';
    return peer === undefined && this.#options.client === 'required'
      ? 'no client certificate'
      : undefined;
  }

  readonly #bundleOf = (trustDomain: Bundle['trustDomain']): Bundle | undefined => {
    const bundle = this.#options.bundles.value;
    return bundle.trustDomain === trustDomain ? bundle : undefined;
  };

  /** Ends what has not been handed on yet; only the first reason counts. */
  #refuse({ raw, ip, port, arriving }: Arrival, reason: string): void {
    if (arriving.signal.aborted) return;
    arriving.abort();
    raw.destroy();
    this.#options.onRefused({ address: ip, port, reason });
  }

  async #watchSvid(): Promise<void> {
    let used = this.#options.svid.value;
    for await (const svid of this.#options.svid.values(this.#ending.signal)) {
      if (svid !== used) this.#tls.setSecureContext(serverContext(svid));
      used = svid;
    }
  }

  /** When an authority has left the bundle, those whom it vouched for leave too. */
  async #watchBundle(): Promise<void> {
    let known = this.#options.bundles.value;
    for await (const bundle of this.#options.bundles.values(this.#ending.signal)) {
      if (!keepsX509Authorities(known, bundle)) await this.#verifyAgain();
      known = bundle;
    }
  }

  async #verifyAgain(): Promise<void> {
    let done = 0;
    for (const [connection, { raw, ip, port }] of [...this.#live]) {
      if (++done % BATCH === 0) await new Promise((resolve) => setImmediate(resolve));
      const { peer } = connection;
      if (peer === undefined || !this.#live.has(connection)) continue;
      try {
        verifySvid(peer.chain, this.#bundleOf, this.#options.clock.now());
      } catch (error) {
        raw.destroy();
        this.#options.onRefused({ address: ip, port, reason: svidRefusal(error) ?? 'unknown' });
      }
    }
  }
}

/**
 * What a client of `SvidServer` needs: the bundle's roots, its own SVID if it has one, and a check of
 * the server by `verifySvid` and `authorize`. A name or address is not looked at: the SPIFFE ID is.
 */
export function svidClientTls(options: {
  readonly svid?: X509Svid | undefined;
  readonly bundle: Bundle;
  readonly authorize: Authorizer;
  readonly clock: Clock;
}): TlsClientOptions {
  const { svid, bundle, authorize, clock } = options;
  const bundleOf = (trustDomain: Bundle['trustDomain']) =>
    bundle.trustDomain === trustDomain ? bundle : undefined;
  return {
    ca: [bundleToPem(bundle)],
    ...(svid === undefined ? {} : { cert: svidPem(svid).certificates, key: svid.privateKey }),
    checkServerIdentity(_host, certificate) {
      try {
        const { id } = verifySvid(peerChain(certificate), bundleOf, clock.now());
        if (authorize(id)) return undefined;
        return new Fault('SVID_INVALID', `server is ${id}, not the one that is wanted`);
      } catch (error) {
        return Fault.from(error);
      }
    },
  };
}

/** The same for `tls.connect`, which takes keys as PEM only. */
export function tlsConnectOptions(options: TlsClientOptions): tls.ConnectionOptions {
  const { ca, cert, key, checkServerIdentity } = options;
  return {
    ca: [...ca],
    ...(cert === undefined || key === undefined
      ? {}
      : { cert, key: key.export({ type: 'pkcs8', format: 'pem' }) }),
    checkServerIdentity,
    // Left out, NODE_TLS_REJECT_UNAUTHORIZED=0 in the environment would take any server.
    rejectUnauthorized: true,
    minVersion: 'TLSv1.3',
  };
}

function serverContext(svid: X509Svid): tls.SecureContextOptions {
  const { certificates, key } = svidPem(svid);
  return {
    cert: certificates,
    key,
    // An empty list: OpenSSL trusts nobody and names no authorities to clients.
    ca: [],
    minVersion: 'TLSv1.3',
    secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
    // OpenSSL writes tickets in TLS 1.3 even so, but each is the number of a session that is not kept.
    sessionTimeout: 1,
  };
}

function handshakeReason(error: NodeJS.ErrnoException): string {
  return `handshake failed: ${error.code ?? 'unknown'}`;
}
